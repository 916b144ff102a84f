"""A catalog in one file for people to keep (docs/formats/backup.md).

`container` is the file's form, `verification` tells what one holds and whether it is whole.
Neither knows a cluster: both work on any machine that has the file.
"""

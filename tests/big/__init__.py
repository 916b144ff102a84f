"""`make big`: one object of 5 GiB through a real cluster, and what memory that takes.

Read `__main__` (what is done and judged), then `transfers` (by `ossctl`, by plain HTTP),
`content` (bytes from a seed) and `room` (memory and disk).
"""

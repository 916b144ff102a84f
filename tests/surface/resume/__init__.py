"""`make resume`: 1 GiB through each way in and out, cut off again and again.

Read `__main__` (the program), `uploads` and `downloads` (what a patient client does), then
`trouble` (who cuts connections and kills frontends).
"""

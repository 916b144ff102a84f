"""The whole surface of the store over plain HTTP, one test per row of what it promises.

Nothing of the product is imported (test_black_box.py holds that): a cluster of `ossctl up`
with two frontends, sockets, and signals to its processes. Read `cluster` (the cluster), `tokens`
(headers and envelope of the token API) and `ways` (every way in and out), then the tests. `fuzz`
and `resume` are programs of their own (`make fuzz`, `make resume`) with a short form among them.
"""

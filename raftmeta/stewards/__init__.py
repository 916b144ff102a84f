"""Standing work of a metanode: each steward is one coroutine, owned by the service.

`collection` is begun with a leadership and ended with it; `logcutting` runs on every member
while it takes part. None of them knows HTTP or how commands reach the log.
"""

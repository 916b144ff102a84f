"""Standing work of the leader: each steward is one `run` coroutine, owned by the service,
begun with a leadership and ended with it.

None of them knows HTTP or how commands reach the log. Cutting the log is no steward's
work: every replica does it by itself.
"""

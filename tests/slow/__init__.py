"""`make slow`: clients that are slow, and clients that pause, beside others that are not.

Reading order: `clients` (one slow upload, one paused download), `crowd` (many at once),
`usual` and `measuring` (what a normal client sees meanwhile, in a process of its own), `__main__`
(the story and its report).
Everything speaks plain HTTP to real processes.
"""

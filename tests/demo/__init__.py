"""`make demo`: the store's main job on a real file, while its processes die.

Read `__main__` (the story), then `stage` (how it runs `ossctl` and judges) and `files` (which
file it shows). It knows the store as its users do: `ossctl`, HTTP, and the files on the disks.
"""

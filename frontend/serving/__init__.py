"""What the dialects share of speaking HTTP, none of it any dialect's own words.

Reading order: `query`, `ranges`, `etags`, `encoding` (parsing, pure), then `surface` (what the
handlers of one process work with) and `sending` (an object as an answer). It knows flows and
answers, but no paths and no form of an error.
"""

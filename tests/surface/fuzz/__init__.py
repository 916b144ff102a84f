"""`make fuzz`: requests nobody should send, at every door of a store that must not mind.

Read `__main__` (the program), `shots` (what is sent), `spoiling` (how good requests are made
bad), then `judge` (what must not happen).
"""

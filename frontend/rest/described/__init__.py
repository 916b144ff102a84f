"""The native dialect, described for machines: what each handler takes and answers.

Reading order: `answers` (the bodies of answers), `objects`, `uploads`, `listings`, `buckets`,
`cluster`, `upkeep`, `credentials`, `shares`,
and `paths` (all of it). tests/openapi hold it to the routes, and every answer that
the tests of the handlers get to what is said here.
"""

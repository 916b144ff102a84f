"""What the HTTP interface is, for machines: an OpenAPI 3.1 description, `GET /openapi.json`.

Reading order: `words` (how a description is written), `shapes` (values that many answers
share), `failures` (every error of the tree as an answer), `process` (the paths that every
process has), `document` (one description of it all), `serving`. Each dialect describes its own
paths beside its handlers; tests hold the two together. It knows no handler and no flow.
"""

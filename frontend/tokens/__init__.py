"""The token dialect: whoever holds a token may upload or download one content, by its SHA-256.

Reading order: `arguments`, `part_headers`, `multipart` (parsing), `codes` (errors as numbers),
then `handler` (who may, the envelope), `server`, `minting`, `uploads`, `files`, and `routes`.
It translates; what happens is in `frontend.flows.files` and the flows below that. The paths
and names, misspelled ones too, are those of an older store: docs/token-api.md.
"""

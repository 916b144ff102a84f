"""Large files that users send straight to a blob daemon (docs/adr/0013-temps-in-volumes.md).

A *temp* is such a file until it is confirmed: pieces in this daemon's volumes under one id,
and a head that makes it exist. Confirming it has a frontend take it in by the ordinary PUT.

Reading order: `records` (what lies on the disk), `shelf` (the temps of one disk), `temps`
(of all disks; expiry), `intake` (a body on its way in), `frontends` (who may take one in),
`adoption` (having it taken in, once), `handlers` (HTTP).

Must not know: stripes, placement, the catalog's tables.
"""

"""What there is to say of the archive in `/v1/cluster`: a line for people."""

from typing import Any


def archive_line(archive: dict[str, Any] | None) -> str:
    """What would be left if every metanode were lost now; empty while no leader tells."""
    if archive is None:
        return ""
    behind = archive["applied_index"] - archive["archived_index"]
    said = (
        f"catalog archived up to {archive['archived_index']} "
        f"on {archive['copies']} of {archive['copies_wanted']} disks"
    )
    if behind > 0:
        said += f", {behind} entries behind for at most {archive['lag_ms'] / 1000:.1f} s"
    problems = [k["node"] + ": " + k["problem"] for k in archive["keepers"] if k["problem"]]
    return "; ".join(filter(None, [said, archive["problem"], *problems]))

"""What there is to say of the censuses in `/v1/cluster`: lines for people."""

from collections.abc import Iterable, Iterator
from typing import Any


def census_lines(blobs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line for each node whose disks lack shards, or were not compared with the catalog."""
    for node in blobs:
        said = [text for disk in node["disks"] if (text := _of_disk(node, disk))]
        if said:
            yield f"{node['id']}: {'; '.join(said)}"


def _of_disk(node: dict[str, Any], disk: dict[str, Any]) -> str:
    if disk["state"] == "removed":
        return ""
    census = disk["census"]
    if census is None:
        return f"disk {disk['disk']} has no census yet"
    told = f"census of {census['finished_ms_ago'] / 1000:.0f} s ago"
    if census["missing"]:
        return (
            f"disk {disk['disk']} lacks {census['missing']} of {census['expected']} shards ({told})"
        )
    if node["state"] != "up" and census["expected"]:
        return f"disk {disk['disk']}, which is out of reach, held {census['present']} shards"
    return ""

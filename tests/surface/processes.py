"""What the processes of a store take (Linux)."""

import os
from collections.abc import Mapping
from pathlib import Path


def peaks_mib(pids: Mapping[str, int]) -> dict[str, float]:
    """Process -> the most memory it ever had resident."""
    return {name: _peak_mib(pid) for name, pid in pids.items()}


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) / 1024, 1)


def descriptors(pids: Mapping[str, int]) -> dict[str, int]:
    """Process -> open files and sockets."""
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}

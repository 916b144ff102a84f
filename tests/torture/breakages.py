"""`python -m tests.torture.breakages`: break the code on purpose; the torture must fail.

One deliberate breakage for each claim of the kill loops. Each is applied to a copy of the
tree, the torture runs there in a short form, and has to end with a failure. Exits 1 when
any breakage went unnoticed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NO_FAULTS = ("--leader-kills=0", "--kill-all=0", "--rolling=0", "--wipes=0", "--blob-kills=0")
COPIED = ("osscore", "ossd", "raftmeta", "blobd", "frontend", "cli", "tests", "bench")


@dataclass(frozen=True, slots=True)
class Breakage:
    """Edits (file, old text, new text) that break one claim, the faults that show it, and
    the words (a regular expression) by which the torture must complain."""

    claim: str
    what: str
    edits: tuple[tuple[str, str, str], ...]
    faults: tuple[str, ...]
    sign: str


BREAKAGES = (
    Breakage(
        claim="0 acknowledged writes lost",
        what="the leader alone decides what is committed; the others get it once a second",
        edits=(
            (
                "raftmeta/engine.py",
                "        core = self.core\n        if not self._election.may_stand:\n",
                "        core = self.core\n"
                "        if core.is_leader:\n"
                "            core.commit_index = self._journal.synced_index\n"
                "        if not self._election.may_stand:\n",
            ),
            (
                "raftmeta/replication.py",
                "        found = self._journal.entries(next_index, ",
                '        is_due = __import__("time").monotonic() % 1.0 < 0.1\n'
                "        found = is_due and self._journal.entries(next_index, ",
            ),
            ("raftmeta/replication.py", "for entry in found)", "for entry in found or ())"),
        ),
        faults=("--wipes=12",),
        sign=r"acknowledged version \d+ is lost",
    ),
    Breakage(
        claim="0 applied twice",
        what="a command's first result is not remembered",
        edits=(
            (
                "raftmeta/catalog/apply_sessions.py",
                "    if first is not None:\n",
                "    if first is not None and first is None:\n",
            ),
            (
                "raftmeta/catalog/apply_sessions.py",
                '"INSERT INTO results (session, seq, result)',
                '"INSERT OR REPLACE INTO results (session, seq, result)',
            ),
        ),
        faults=("--leader-kills=12", "--writers=16", "--keep-going"),
        sign="applied twice",
    ),
    Breakage(
        claim="0 deleted objects back",
        what="the removal of a version is acknowledged and not carried out",
        edits=(
            (
                "raftmeta/catalog/apply_objects.py",
                "    versions.remove(tx, bucket, row)\n    return _deleted(row)",
                "    return _deleted(row)",
            ),
        ),
        faults=("--leader-kills=2",),
        sign="came back after its removal",
    ),
    Breakage(
        claim="0 wrong bytes",
        what="a degraded read joins whatever shards came, unchecked",
        edits=(
            (
                "frontend/flows/gather.py",
                "reader.store.codec.decode(stripe.coding, shards, stripe.stored_bytes)",
                'b"".join(shards.values())[: stripe.stored_bytes]',
            ),
            (
                "frontend/flows/gather.py",
                "    if crc32c(stored) != stripe.stored_crc:\n",
                "    if crc32c(stored) != stripe.stored_crc and not stored:\n",
            ),
        ),
        faults=("--blob-kills=6",),
        sign="wrong bytes|nobody ever wrote",
    ),
    Breakage(
        claim="catalogs of all metanodes identical",
        what="apply reads the machine's clock",
        edits=(
            (
                "raftmeta/catalog/versions.py",
                "            tx.time_ms,\n",
                '            __import__("time").time_ns() // 1_000_000,\n',
            ),
        ),
        faults=("--rolling=1",),
        sign="catalogs of the metanodes differ",
    ),
    Breakage(
        claim="first write after a leader kill: median <= 1.0 s, p99 <= 3 s",
        what="followers doubt a silent leader only after 2 to 3.4 seconds",
        edits=(
            (
                "raftmeta/settings.py",
                "election_min_s: float = 0.5 ",
                "election_min_s: float = 2.0 ",
            ),
            (
                "raftmeta/settings.py",
                "election_max_s: float = 1.0 ",
                "election_max_s: float = 3.4 ",
            ),
        ),
        faults=("--leader-kills=5", "--judge-from=5"),
        sign="first write after a leader kill",
    ),
)


def misfits(breakage: Breakage) -> list[str]:
    """Edits whose old text is not exactly once in the code: the list has grown stale."""
    return [
        f"{file}: {old!r}"
        for file, old, _ in breakage.edits
        if (ROOT / file).read_text().count(old) != 1
    ]


def is_noticed(breakage: Breakage) -> bool:
    """Whether the torture fails with this breakage, and for the right reason."""
    with tempfile.TemporaryDirectory(prefix="raftoss-breakage-") as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in breakage.edits:
            path = copy / file
            path.write_text(path.read_text().replace(old, new))
        # The daemons start with -P; PYTHONPATH puts the copy before what is installed.
        done = subprocess.run(
            [sys.executable, "-m", "tests.torture", *NO_FAULTS, *breakage.faults],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        sys.stderr.write((done.stdout + done.stderr)[-2000:] + "\n")
        return done.returncode != 0 and bool(re.search(breakage.sign, done.stdout + done.stderr))


def main() -> int:
    """All breakages, or those whose number is given."""
    wanted = [int(word) for word in sys.argv[1:]] or range(1, len(BREAKAGES) + 1)
    unnoticed = 0
    for number in wanted:
        breakage = BREAKAGES[number - 1]
        noticed = not misfits(breakage) and is_noticed(breakage)
        unnoticed += not noticed
        print(
            f"{number}. {breakage.claim}: {breakage.what}: "
            f"{'the torture fails, as it must' if noticed else 'NOT NOTICED'}",
            flush=True,
        )
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())

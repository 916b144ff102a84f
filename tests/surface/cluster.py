"""A local cluster with two frontends, spoken to as its users do."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.cluster.local import Answer, Body, LocalStore, wait_for

TIMES = {
    "OSS_GC_GRACE_S": "20",
    "OSS_VOLUME_BYTES": str(64 << 20),
    "OSS_HEARTBEAT_S": "0.5",
}
"""Uploads live as long as by default; garbage goes soon enough to be seen going."""
SHORT_LIVES = {
    **TIMES,
    "OSS_VOLUME_BYTES": str(8 << 20),
    "OSS_GC_GRACE_S": "4",
    "OSS_UPLOAD_EXPIRY_S": "4",
    "OSS_TEMP_EXPIRY_S": "4",
}
PARITY = 2
"""So many blob daemons may be dead: a new cluster of six codes 4+2."""


class SurfaceStore(LocalStore):
    """`ossctl up --frontends 2`; `at` of a request is the number of a frontend."""

    def __init__(self, folder: Path, *, times: Mapping[str, str] = TIMES) -> None:
        super().__init__(folder, times=times)

    @property
    def frontends(self) -> list[str]:
        """host:port of each frontend."""
        return [urlsplit(each["api"]).netloc for each in self.facts()["frontends"]]

    @property
    def blobs(self) -> list[str]:
        """host:port of each blob daemon."""
        return [urlsplit(each["http"]).netloc for each in self.facts()["blobs"]]

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        at: int = 0,
        anonymous: bool = False,
    ) -> Answer:
        """One request to frontend `at` (modulo their number)."""
        doors = self.frontends
        return self.request(
            method,
            path,
            body=body,
            headers=headers,
            address=doors[at % len(doors)],
            anonymous=anonymous,
        )

    def all_up(self) -> bool:
        """Also: each frontend answers."""
        ready = all(self.ask("GET", "/readyz", at=n).status == 200 for n in (0, 1))
        return ready and super().all_up()

    def revive(self) -> None:
        """Start what was killed; back once the store is whole again."""
        self.up()
        wait_for(self.all_up, what="the store to be whole again", deadline_s=60)

    def steps(self, path: str, *, at: int = 0) -> list[Any]:
        """The answers of a maintenance command, step after step to its end."""
        found, after = [], ""
        while True:
            answer = self.ask("POST", path + after, at=at + len(found)).expect(200).json()
            found.append(answer)
            if answer["next"] is None:
                return found
            after = ("&" if "?" in path else "?") + f"after={quote(str(answer['next']))}"

    def mend(self) -> None:
        """Until every shard is there: a write that was held up has left some out, and then
        fewer daemons may die. All must run; a daemon that did not is asked again only later."""

        def is_mended() -> bool:
            steps = self.steps("/v1/maintenance/scan?repair=1")
            away = any(step["shards"]["unreachable"] for step in steps)
            return not away and self.census()["missing"] == {}

        wait_for(is_mended, what="every shard to be there", deadline_s=60)

    def disk_bytes(self) -> int:
        """Bytes of all files in the folders of all blob daemons."""
        total = 0
        for blob in self.facts()["blobs"]:
            for path in Path(blob["data"]).rglob("*"):
                try:
                    total += path.stat().st_size if path.is_file() else 0
                except FileNotFoundError:
                    continue  # compacted away just now
        return total

    def versions(self, name: str, *, at: int = 0) -> list[dict[str, Any]]:
        """The lines of /versions/NAME; none for an unknown name."""
        answer = self.ask("GET", "/versions/" + quote(name), at=at).expect(200, 404)
        lines = answer.body.splitlines() if answer.status == 200 else []
        return [json.loads(line) for line in lines]

    @contextmanager
    def same_processes(self) -> Iterator[None]:
        """A block in which no process may end."""
        before = self.running()
        yield
        assert self.running() == before


def steady(
    store: SurfaceStore,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    at: int = 0,
    deadline_s: float = 40,
) -> Answer:
    """A request as a patient client sends it: again after 503, and at the next frontend when
    one cannot be reached or cuts the connection."""
    turn = [at]

    def attempt() -> Answer | None:
        turn[0] += 1
        try:
            found = store.ask(method, path, body=body, headers=headers, at=turn[0] - 1)
        except (OSError, http.client.HTTPException):
            return None
        return None if found.status == 503 else found

    return wait_for(attempt, what=f"{method} {path} to be answered", deadline_s=deadline_s)

"""The object on its way in and out, by `ossctl` and by plain HTTP; nothing is ever held."""

import hashlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.api import authorization
from cli.connection import local_connection
from tests.big.content import PIECE_BYTES, Content

NAME = "big"
ANSWER_S = 300.0
FOREIGN = ("OSS_", "AWS_")


class TransferFailed(Exception):
    """A transfer did not end as it must."""


@dataclass(slots=True)
class Transfers:
    """What goes to and from the cluster of `folder`; speed of each, peak of each client."""

    folder: Path
    ossctl: str
    content: Content
    speeds: dict[str, dict[str, float]] = field(default_factory=dict)
    client_peaks_bytes: dict[str, int] = field(default_factory=dict)

    def put_by_ossctl(self) -> str:
        """`ossctl put - NAME`; answers the digest the store tells."""
        label = "ossctl put"
        with self._timed(label), self._process("put", "-", NAME, "--json") as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                for piece in self.content.pieces():
                    process.stdin.write(piece)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended; its status says so
            answer = process.stdout.read()
            self._reap(label, process)
        return str(json.loads(answer)["sha256"])

    def get_by_ossctl(self) -> str:
        """`ossctl get NAME -`; answers the digest of what came."""
        label, digest = "ossctl get", hashlib.sha256()
        with self._timed(label), self._process("get", NAME, "-") as process:
            assert process.stdout is not None
            while piece := process.stdout.read(PIECE_BYTES):
                digest.update(piece)
            self._reap(label, process)
        return digest.hexdigest()

    def put_by_http(self) -> str:
        """A plain PUT of the same bytes under another name; the digest the store tells."""
        length = {"Content-Length": str(self.content.size_bytes)}
        with (
            self._timed("http put"),
            self._request("PUT", length, self.content.pieces()) as answer,
        ):
            return str(json.load(answer)["sha256"])

    def get_by_http(self) -> str:
        """A plain GET of that; the digest of what came."""
        digest = hashlib.sha256()
        with self._timed("http get"), self._request("GET", {}) as answer:
            while piece := answer.read(PIECE_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def range_is_right(self, first: int, last: int) -> bool:
        """Whether a range, both ends inclusive, has the bytes it must have."""
        with self._request("GET", {"Range": f"bytes={first}-{last}"}) as answer:
            expected = all(
                answer.read(len(piece)) == piece for piece in self.content.pieces(first, last)
            )
            return answer.status == 206 and expected and not answer.read()

    @contextmanager
    def _timed(self, label: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        seconds = time.monotonic() - began_s
        self.speeds[label] = {
            "seconds": round(seconds, 1),
            "mb_per_second": round(self.content.size_bytes / seconds / 1e6, 1),
        }

    @contextmanager
    def _process(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        with subprocess.Popen(
            [self.ossctl, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, "OSS_DIR": str(self.folder)},
            start_new_session=True,
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def _reap(self, label: str, process: "subprocess.Popen[bytes]") -> None:
        """Wait for its end and keep its peak. Raises TransferFailed."""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # Never too low; no less than this process had when it started the other.
        self.client_peaks_bytes[label] = usage.ru_maxrss * 1024
        if process.returncode:
            raise TransferFailed(f"'{label}' ended with status {process.returncode}")

    @contextmanager
    def _request(
        self, method: str, headers: Mapping[str, str], body: Iterator[bytes] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connected = local_connection(self.folder / "cluster.json")
        sent: dict[str, Any] = {**authorization(connected), **headers}
        address = urlsplit(connected.endpoints[0]).netloc
        connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
        try:
            connection.request(method, f"/objects/{NAME}-by-http", body=body, headers=sent)
            answer = connection.getresponse()
            if answer.status not in (200, 206):
                raise TransferFailed(f"{method} answered {answer.status}: {answer.read(500)!r}")
            yield answer
        finally:
            connection.close()

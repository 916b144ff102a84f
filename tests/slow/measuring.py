"""The normal client in a process of its own: what it sees is not how busy the crowd's process is.

`python -m tests.slow.measuring FOLDER --large BYTES` measures round after round until its
standard input ends (or so many `--rounds`), and prints the seconds of each kind of request.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cli.api import authorization
from cli.connection import Connection, local_connection
from cli.output import UsageError
from tests.slow.usual import Usual, UsualFailed, one_round

PAUSE_S = 0.2
"""Between two rounds."""


@asynccontextmanager
async def normal_session(connection: Connection) -> AsyncIterator[aiohttp.ClientSession]:
    """With an access key, for as many connections and as long as one likes."""
    headers = authorization(connection)
    async with aiohttp.ClientSession(
        headers={**headers, "Accept-Encoding": "identity"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        yield session


@dataclass(slots=True)
class Measuring:
    """The process, from outside."""

    process: asyncio.subprocess.Process

    async def end(self) -> Usual:
        """Let it end its round; what it saw. Raises UsualFailed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        printed, complaint = await self.process.communicate()
        if self.process.returncode != 0:
            raise UsualFailed(complaint.decode().strip() or f"exit {self.process.returncode}")
        return Usual(json.loads(printed))


@asynccontextmanager
async def measuring(folder: Path, *, large: int, rounds: int = 0) -> AsyncIterator[Measuring]:
    """Begun; with `rounds` it ends by itself. Killed at the end if it still runs."""
    words = ["-m", "tests.slow.measuring", str(folder), f"--large={large}", f"--rounds={rounds}"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        yield Measuring(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _measure(folder: Path, *, large: int, rounds: int) -> Usual:
    connection, usual = local_connection(folder / "cluster.json"), Usual()
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    async with normal_session(connection) as session:
        done = 0
        while True:
            await one_round(usual, session, connection.endpoints[0], large=large)
            done += 1
            if done == rounds or (not rounds and told.done()):
                break
            await asyncio.sleep(PAUSE_S)
        await told
    return usual


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of a local cluster")
    parser.add_argument("--large", type=int, required=True, help="bytes of the large object")
    parser.add_argument("--rounds", type=int, default=0, help="0: until standard input ends")
    options = parser.parse_args()
    try:
        usual = asyncio.run(_measure(options.folder, large=options.large, rounds=options.rounds))
    except (UsualFailed, UsageError, aiohttp.ClientError) as error:
        sys.stderr.write(f"{error!r}\n")
        return 1
    print(json.dumps(usual.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.members`: metanodes come and go under writers; exits 1 on a broken promise.

Prints one JSON line a round: five metanodes of three, three others of five, one that lost its
disk replaced, the leader killed during every change.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ossd.rpc import AioRpc
from tests.cluster.harness import Cluster
from tests.members.story import Told, grow_and_shrink


def main() -> int:
    """Run the story as often as asked; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.members", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="each on a cluster of its own")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.rounds):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-members-"))
        began_s = time.monotonic()
        with Cluster(folder, environment={"OSS_HEARTBEAT_S": "0.3"}) as cluster:
            told = round_of(cluster, seed)
        shutil.rmtree(folder)
        shown = {
            "seed": seed,
            "acknowledged": told.acknowledged,
            "lost": 0,
            "twice": 0,
            "leader_kills": told.leader_kills,
            "longest_write_s": told.longest_write_s,
            "seconds": round(time.monotonic() - began_s, 1),
        }
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.stdout.flush()
    return 0


def round_of(cluster: Cluster, seed: int) -> Told:
    """One round over a fresh cluster, whose daemons are told of the first three metanodes."""
    cluster.form_metanodes(3)
    cluster.add_blobd("blob-1")
    cluster.add_frontend()

    async def tell(rpc: AioRpc) -> Told:
        return await grow_and_shrink(cluster, rpc, rounds=1, seed=seed)

    told = cluster.run_rpc(tell)
    assert [node.health for node in told.described.nodes] == ["up"], told.described.nodes
    assert [each.health for each in told.described.frontends if each.frontend != "the test"] == [
        "up"
    ], told.described.frontends
    return told


if __name__ == "__main__":
    sys.exit(main())

"""The cluster as a frontend sees it, and maintenance on request."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import BucketText
from frontend.openapi.words import (
    NO_CREDENTIALS,
    Node,
    all_answers,
    answers_json,
    fails,
    in_query,
    operation,
    path,
)
from frontend.rest.described.answers import (
    Archive,
    ArchiveKeeper,
    BlobDaemon,
    Census,
    Cluster,
    Deletion,
    Disk,
    DiskCensus,
    Expired,
    FrontendShown,
    HealingShort,
    LifecycleShown,
    MayStop,
    Metanode,
    PrunedObject,
    PruneStepDone,
    Status,
)

_ID: Final = "5b0e6d1c" * 4
_DISK: Final = Disk(
    disk=1,
    uuid=_ID,
    state="in",
    capacity_bytes=1 << 40,
    free_bytes=1 << 39,
    writable=True,
    problem="",
    silent=False,
    shards=8,
    bytes=12_000_000,
    census=DiskCensus(
        generation=1,
        begun_at_ms=1_700_000_000_000,
        finished_at_ms=1_700_000_000_400,
        finished_ms_ago=2500,
        expected=8,
        present=7,
        missing=1,
        surplus=0,
        young=0,
    ),
)
_CLUSTER: Final = Cluster(
    cluster_id=_ID,
    metanodes=[
        Metanode(
            id="meta-1",
            url="http://10.0.0.1:9101",
            state="leader",
            term=3,
            applied_index=1200,
            leader="meta-1",
            free_bytes=1 << 36,
        )
    ],
    blobs=[
        BlobDaemon(
            id="blob-1",
            state="up",
            url="http://10.0.0.2:9201",
            zone="",
            last_heartbeat_ms_ago=400,
            disks=[_DISK],
        )
    ],
    frontends=[
        FrontendShown(
            id="frontend-1", state="up", url="http://10.0.0.3:9001", last_heartbeat_ms_ago=300
        )
    ],
    admits_writes=True,
    census=Census(
        buckets=2,
        versions=10,
        markers=1,
        stripes=8,
        dead_stripes=0,
        segments=9,
        uploads=0,
        trash=0,
        graveyard=0,
        sessions=3,
        logical_bytes=64_000_000,
        stored_bytes=96_000_000,
        missing={"1": 1},
        time_jumped=False,
        pruned_versions=0,
        pruned_markers=0,
        pruned_bytes=0,
        expired=Expired(objects=0, versions=0, markers=0, size_bytes=0),
        moved_shards=12,
        moved_bytes=18_000_000,
        reencoded_stripes=0,
        reencoded_bytes=0,
    ),
    pruning=None,
    lifecycle=LifecycleShown(buckets=1, buckets_done=1, objects=0, removed=0, last_round_s_ago=2.5),
    generation=1,
    deletion=Deletion(
        frozen=False, restored_at_ms=None, disks=0, disks_confirmed=0, disks_unconfirmed=[]
    ),
    healing=HealingShort(alarm=None, paused=[], tasks={"repair": 1}, unreadable=0, bytes_per_s=0.0),
    archive=Archive(
        archived_index=1200,
        applied_index=1200,
        lag_ms=0,
        copies=3,
        copies_wanted=3,
        keepers=[ArchiveKeeper(node="blob-1", disk=_ID, end=1200, is_whole=True, problem="")],
        snapshot_index=1100,
        snapshot_bytes=4_000_000,
        log_bytes=60_000,
        problem="",
    ),
)


def cluster_paths() -> dict[str, Node]:
    """`/v1/cluster`, `/v1/status`, `/v1/maintenance...`."""
    return {
        "/v1/cluster": path(get=_cluster()),
        "/v1/status": path(get=_status()),
        "/v1/maintenance": path(get=_may_stop()),
        "/v1/maintenance/prune": path(post=_prune()),
    }


def _cluster() -> Node:
    return operation(
        "describeCluster",
        "cluster",
        "Every node with its state, and counts of the catalog",
        all_answers({"200": answers_json("It.", Cluster, _CLUSTER)}, fails(401, 403, 500, 503)),
    )


def _status() -> Node:
    status = Status(
        id="frontend-1", role="frontend", version="0.1.0", pid=71, state="ready", cluster_id=_ID
    )
    return operation(
        "describeProcess",
        "process",
        "The process that answers",
        {"200": answers_json("It.", Status, status)},
        security=NO_CREDENTIALS,
    )


def _may_stop() -> Node:
    may = MayStop(node="blob-1", may_stop=True)
    return operation(
        "mayStop",
        "cluster",
        "Whether a node may be stopped now without losing availability",
        all_answers(
            {"200": answers_json("It may; 412 says why not.", MayStop, may)},
            fails(400, 401, 403, 404, 412, 500, 503),
        ),
        parameters=[in_query("node", str, "Its id.", example="blob-1", required=True)],
    )


def _prune() -> Node:
    done = PruneStepDone(
        bucket="objects",
        keep=5,
        dry_run=True,
        visited=100,
        versions=2,
        markers=0,
        bytes=22,
        objects=[PrunedObject(key="report.pdf", versions=2, markers=0, bytes=22)],
        next=None,
        run=None,
    )
    count = Annotated[int, Meta(ge=1, le=1000)]
    return operation(
        "prune",
        "maintenance",
        "Remove for good what is older than the newest versions",
        all_answers(
            {"200": answers_json("One step.", PruneStepDone, done)},
            fails(400, 401, 403, 404, 500, 503),
        ),
        says="Of one object (`key`), or of all with `prefix`, from `after` on.",
        parameters=[
            in_query("bucket", BucketText, "Another bucket than the default one."),
            in_query("keep", count, "How many are kept; 5.", example=5),
            in_query("key", str, "One object."),
            in_query("prefix", str, "Objects whose names begin with this."),
            in_query("after", str, "`next` of the step before."),
            in_query(
                "run", str, "`run` of the step before; without it this one is audited itself."
            ),
            in_query("dry_run", str, "`1`: only count.", example="1"),
        ],
    )

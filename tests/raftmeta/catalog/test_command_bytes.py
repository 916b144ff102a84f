"""Golden bytes of every command in the log, and of the entry that carries them.

A difference here is a format change: old entries stay in the log, so it needs a new tag
(docs/formats/commands.md).
"""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from osscore.model import ObjectAttributes, Profile, ShardIdentity, Slot, StripeDraft, reed_solomon
from osscore.names import StripeId
from raftmeta.commands import (
    AbortUpload,
    AnyCommand,
    Batch,
    BeginUpload,
    Collect,
    Conditions,
    ConfirmTime,
    CopyBody,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    DiskReport,
    Entry,
    FormCluster,
    HoldManifest,
    InlineBody,
    MarkBad,
    MarkGood,
    OpenSession,
    PutAccessKey,
    PutObject,
    RegisterNode,
    RevokeAccessKey,
    SetDiskState,
    Stage,
    StripeQuestion,
    StripesBody,
    TrashDone,
    Undelete,
    UploadBody,
)

GOLDEN = Path(__file__).with_name("command_bytes.txt")
UPLOAD = bytes(range(16))
IDENTITY = ShardIdentity(StripeId(bytes(range(16))), 1, 0)
DRAFT = StripeDraft(
    stripe=StripeId(bytes(range(16))),
    profile=Profile(2, 1),
    domain=b"",
    digest=bytes(32),
    plain_bytes=5,
    stored_bytes=5,
    stored_crc=7,
    frames=(),
    coding=reed_solomon(Profile(2, 1)),
    shard_bytes=3,
    shard_crcs=(1, 2, 3),
    slots=(Slot(0, 0, 1), Slot(1, 0, 2), Slot(2, 0, 3)),
)
ATTRIBUTES = ObjectAttributes(size_bytes=5, sha256=bytes(32), user={"a": "b"})


def put(body: InlineBody | StripesBody | UploadBody | CopyBody) -> PutObject:
    return PutObject(bucket="bucket", key="k", attributes=ATTRIBUTES, body=body)


COMMANDS: dict[str, AnyCommand] = {
    "OpenSession": OpenSession(),
    "FormCluster": FormCluster(
        cluster_id=b"c",
        catalog_key_wrapped=b"w",
        root_access_key="root",
        root_secret_sealed=b"s",
        system_token_digest=b"d",
        gc_grace_ms=60000,
    ),
    "CreateBucket": CreateBucket(bucket="bucket", profile=Profile(4, 2)),
    "DeleteBucket": DeleteBucket(bucket="bucket"),
    "PutObject inline": put(InlineBody(data=b"hello")),
    "PutObject stripes": put(StripesBody(stripes=(DRAFT,))),
    "PutObject upload": put(UploadBody(upload=UPLOAD)),
    "PutObject copy": put(CopyBody(bucket="from", key="x", number=3)),
    "DeleteObject": DeleteObject(
        bucket="bucket", key="k", conditions=Conditions(if_match=("e",), if_none_match=("*",))
    ),
    "DeleteVersion": DeleteVersion(bucket="bucket", key="k", number=2, version_id="v"),
    "Undelete": Undelete(bucket="bucket", key="k"),
    "BeginUpload": BeginUpload(upload=UPLOAD, bucket="bucket", key="k", ttl_ms=1000),
    "Stage": Stage(
        upload=UPLOAD,
        position=2,
        append=(DRAFT, 17),
        ask=(StripeQuestion(profile=Profile(2, 1), domain=b"", digest=bytes(32), plain_bytes=5),),
    ),
    "AbortUpload": AbortUpload(upload=UPLOAD),
    "HoldManifest": HoldManifest(upload=UPLOAD, manifest=9, ttl_ms=1000),
    "RegisterNode": RegisterNode(
        node="blob-1",
        url="http://b:1",
        zone="z",
        cluster_id=b"c",
        disks=(DiskReport(uuid=UPLOAD, epoch=1, capacity_bytes=10),),
    ),
    "SetDiskState": SetDiskState(disk=1, state="draining"),
    "MarkBad": MarkBad(identity=IDENTITY, disk=2),
    "MarkGood": MarkGood(identity=IDENTITY, disk=2),
    "Collect": Collect(grace_ms=60000, rows_max=100),
    "TrashDone": TrashDone(disk=1, rows=(1, 2)),
    "ConfirmTime": ConfirmTime(),
    "PutAccessKey": PutAccessKey(
        access_key="A",
        secret_sealed=b"s",
        scopes=("upload",),
        buckets=("bucket",),
        expires_at_ms=5,
        note="n",
    ),
    "RevokeAccessKey": RevokeAccessKey(access_key="A"),
}


def golden() -> dict[str, bytes]:
    lines = GOLDEN.read_text().splitlines()
    pairs = (line.split(" = ") for line in lines if line and not line.startswith("#"))
    return {name: bytes.fromhex(digits) for name, digits in pairs}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_keep_their_bytes(name: str) -> None:
    assert msgspec.msgpack.encode(COMMANDS[name]) == golden()[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_old_bytes_are_still_read(name: str) -> None:
    assert msgspec.msgpack.decode(golden()[name], type=AnyCommand) == COMMANDS[name]


def test_the_entry_keeps_its_bytes() -> None:
    entries = (Entry(1, 2, OpenSession()), Entry(3, 4, AbortUpload(upload=b"u"), 5))
    batch = Batch(time_ms=1_800_000_000_000, entries=entries)
    assert msgspec.msgpack.encode(batch) == golden()["Batch"]
    assert msgspec.msgpack.decode(golden()["Batch"], type=Batch) == batch


def test_every_command_has_golden_bytes() -> None:
    assert {type(command) for command in COMMANDS.values()} == set(get_args(AnyCommand))
    assert set(golden()) == {*COMMANDS, "Batch"}

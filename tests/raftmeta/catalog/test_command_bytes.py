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
    FormCluster,
    HoldManifest,
    InlineBody,
    KeepChunk,
    LinkChunks,
    MarkBad,
    MarkGood,
    OpenSession,
    PruneVersions,
    PutObject,
    RegisterNode,
    SealUpload,
    SetDiskState,
    SetKeepVersions,
    SetQuota,
    Stage,
    StripeQuestion,
    StripesBody,
    TrashDone,
    Undelete,
    UploadBody,
    UploadPlan,
)
from raftmeta.credentials import (
    AuditNote,
    ChangeAccessKey,
    IfKeyUnchanged,
    NoteAudit,
    PutAccessKey,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
    SetSystemToken,
)
from raftmeta.entries import AnyCommand, Batch, Entry
from raftmeta.generations import AdoptGeneration, BeginGeneration, ConfirmCensus
from raftmeta.healing import DrainDisk, JudgeDisk, PauseWork
from raftmeta.lifecycle import ExpireObject, ExpireVersions, SetLifecycle
from raftmeta.members import Member, SetMembers
from raftmeta.moving import CloseTasks, MoveSlot, OpenTasks, TaskDraft
from raftmeta.reencoding import (
    CancelReencode,
    CloseReencodes,
    FinishReencode,
    OpenReencodes,
    Reencode,
    ReencodeDraft,
    SetProfile,
)
from raftmeta.rejoining import BeginRejoin, CompareSlots, FinishRejoin
from raftmeta.timetravel import (
    RestoreObject,
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
    "Undelete since": Undelete(bucket="bucket", key="k", since_ms=5, until_ms=6, markers_max=7),
    "RestoreObject": RestoreObject(bucket="bucket", key="k", at_ms=5, began_ms=6),
    "SetKeepVersions": SetKeepVersions(bucket="bucket", keep_versions=5),
    "PruneVersions": PruneVersions(bucket="bucket", key="k", keep=5, rows_max=100),
    "PruneVersions as the bucket asks": PruneVersions(bucket="bucket", key="k"),
    "BeginUpload": BeginUpload(upload=UPLOAD, bucket="bucket", key="k", ttl_ms=1000),
    "BeginUpload planned": BeginUpload(
        upload=UPLOAD,
        bucket="bucket",
        key="k",
        ttl_ms=1000,
        plan=UploadPlan(
            owner="A",
            size_bytes=5,
            sha256=bytes(32),
            profile=Profile(4, 2),
            content={"a": "b"},
            user={"c": "d"},
        ),
        restarts=True,
    ),
    "BeginUpload owned": BeginUpload(
        upload=UPLOAD,
        bucket="bucket",
        key="k",
        ttl_ms=1000,
        plan=UploadPlan(owner="A", owner_since_ms=7, is_declared=True),
    ),
    "BeginUpload waiting": BeginUpload(
        upload=UPLOAD, bucket="bucket", key="k", ttl_ms=1000, waits=True
    ),
    "SetLifecycle": SetLifecycle(
        bucket="bucket",
        expire_after_ms=5,
        expire_noncurrent_after_ms=6,
        abort_uploads_after_ms=0,
    ),
    "ExpireObject": ExpireObject(bucket="bucket", key="k"),
    "ExpireVersions": ExpireVersions(bucket="bucket", rows_max=100),
    "SealUpload": SealUpload(upload=UPLOAD, size_bytes=5, sha256=bytes(32), ttl_ms=1000),
    "KeepChunk": KeepChunk(
        upload=UPLOAD,
        parent=bytes(16),
        number=3,
        size_bytes=5,
        sha256=bytes(32),
        replaces=True,
    ),
    "LinkChunks": LinkChunks(upload=UPLOAD, position=2, chunks=(bytes(16),)),
    "PutObject finishing": PutObject(
        bucket="bucket",
        key="k",
        attributes=ATTRIBUTES,
        body=UploadBody(upload=UPLOAD),
        finishes=UPLOAD,
    ),
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
    "SetQuota": SetQuota(bucket="bucket", size_bytes=10**9, versions=0),
    "OpenTasks": OpenTasks(tasks=(TaskDraft(7, 1, 0, 2, 4, "repair"),)),
    "MoveSlot": MoveSlot(task=3),
    "CloseTasks": CloseTasks(tasks=(3, 4)),
    "JudgeDisk": JudgeDisk(disk=3, is_lost=True),
    "DrainDisk": DrainDisk(disk=3, drains=True),
    "PauseWork": PauseWork(work="repair", paused=True),
    "TrashDone": TrashDone(disk=1, rows=(1, 2)),
    "ConfirmTime": ConfirmTime(),
    "SetMembers": SetMembers(members=(Member(id="meta-1", raft="h:1", url="http://h:2"),)),
    "PutAccessKey": PutAccessKey(
        access_key="A",
        secret_sealed=b"s",
        scopes=("upload",),
        buckets=("bucket",),
        expires_at_ms=5,
        note="n",
    ),
    "PutAccessKey limited": PutAccessKey(
        access_key="A",
        secret_sealed=b"s",
        scopes=("upload",),
        prefixes=("p/",),
        must_be_new=True,
    ),
    "ChangeAccessKey": ChangeAccessKey(access_key="A", prefixes=(), disabled=True),
    "RotateAccessKey": RotateAccessKey(access_key="A", secret_sealed=b"s", overlap_ms=5),
    "RevokeAccessKey": RevokeAccessKey(access_key="A"),
    "SetSystemToken": SetSystemToken(digest=b"d"),
    "RotateSigningKey": RotateSigningKey(
        kid="k", secret_sealed=b"s", overlap_ms=5, only_if_none=True
    ),
    "RevokeTokens": RevokeTokens(jtis=("j",)),
    "NoteAudit": NoteAudit(),
    "IfKeyUnchanged": IfKeyUnchanged(
        access_key="A", changed_at_ms=5, command=DeleteObject(bucket="bucket", key="k")
    ),
    "IfKeyUnchanged of a former secret": IfKeyUnchanged(
        access_key="A",
        changed_at_ms=5,
        is_former_secret=True,
        command=put(InlineBody(data=b"hello")),
    ),
    "SetProfile": SetProfile(bucket="bucket", profile=Profile(4, 2), reencodes=True),
    "CancelReencode": CancelReencode(bucket="bucket"),
    "FinishReencode": FinishReencode(job=3, kept_stripes=2),
    "OpenReencodes": OpenReencodes(
        tasks=(ReencodeDraft(7, StripeId(bytes(range(16))), Profile(4, 2), 5, 3),)
    ),
    "CloseReencodes": CloseReencodes(tasks=(4, 5)),
    "Reencode": Reencode(task=4, draft=DRAFT),
    "BeginRejoin": BeginRejoin(
        uuid=UPLOAD, node="blob-1", url="http://b:1", epoch=3, claim=UPLOAD, generation=2
    ),
    "CompareSlots": CompareSlots(
        disk=1,
        claim=UPLOAD,
        generation=2,
        after_row=3,
        through_row=9,
        slot_count=4,
        absent=(IDENTITY,),
    ),
    "FinishRejoin": FinishRejoin(disk=1, claim=UPLOAD, generation=2),
    "BeginGeneration": BeginGeneration(generation=2),
    "ConfirmCensus": ConfirmCensus(disk=1, generation=2),
    "AdoptGeneration": AdoptGeneration(generation=2, force=True),
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
    note = AuditNote(
        actor="A", action="key.revoke", target="B", detail="d", request_id="r", source="::1"
    )
    entries = (Entry(1, 2, OpenSession()), Entry(3, 4, RevokeAccessKey(access_key="B"), 5, note))
    batch = Batch(time_ms=1_800_000_000_000, entries=entries)
    assert msgspec.msgpack.encode(batch) == golden()["Batch audited"]
    assert msgspec.msgpack.decode(golden()["Batch audited"], type=Batch) == batch


def test_entries_from_before_there_was_an_audit_are_still_read() -> None:
    entries = (Entry(1, 2, OpenSession()), Entry(3, 4, AbortUpload(upload=b"u"), 5))
    batch = Batch(time_ms=1_800_000_000_000, entries=entries)
    assert msgspec.msgpack.decode(golden()["Batch"], type=Batch) == batch


def test_every_command_has_golden_bytes() -> None:
    assert {type(command) for command in COMMANDS.values()} == set(get_args(AnyCommand))
    assert set(golden()) == {*COMMANDS, "Batch", "Batch audited"}

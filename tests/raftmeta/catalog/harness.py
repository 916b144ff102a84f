"""A catalog driven as the replica drives it, one batch a call, with one session."""

from pathlib import Path

import msgspec

from osscore.model import (
    ObjectAttributes,
    Profile,
    Slot,
    SlotState,
    StripeDraft,
    reed_solomon,
    replicas,
)
from osscore.names import StripeId, stripe_id
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import (
    AbortUpload,
    Collect,
    CreateBucket,
    DiskReport,
    FormCluster,
    InlineBody,
    OpenSession,
    PutObject,
    Refused,
    RegisterNode,
    SessionOpened,
    StripesBody,
)
from raftmeta.entries import AnyCommand, AnyResult, Batch, Entry
from raftmeta.questions import AnyAnswer, AnyQuery

START_MS = 1_800_000_000_000
GRACE_MS = 3_600_000
CLUSTER = b"c" * 16
TWO_ONE = Profile(2, 1)
MINUTE_MS = 60_000


class Driver:
    """Applies commands at a time the test turns, and keeps the log for replays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.catalog = Catalog(path)
        self.log: list[bytes] = []
        self.index = 0
        self.now_ms = START_MS
        self.seq = 0
        self.session = 0
        self._stripes = 0

    def apply(self, *entries: Entry) -> list[AnyResult]:
        """One batch of exactly these entries."""
        blob = msgspec.msgpack.encode(Batch(time_ms=self.now_ms, entries=entries))
        self.index += 1
        self.log.append(blob)
        return self.catalog.apply(self.index, blob)

    def open(self) -> int:
        """A new session."""
        opened = self.apply(Entry(0, 0, OpenSession()))[0]
        assert isinstance(opened, SessionOpened)
        return opened.session

    def next(self, command: AnyCommand) -> Entry:
        """The command under the next request id of the driver's session."""
        self.session = self.session or self.open()
        self.seq += 1
        return Entry(self.session, self.seq, command)

    def run(self, command: AnyCommand) -> AnyResult:
        """One command in a batch of its own."""
        self.now_ms += 10
        return self.apply(self.next(command))[0]

    def ask(self, query: AnyQuery, soft: SoftState | None = None) -> AnyAnswer:
        """One query."""
        return self.catalog.answer([query], soft=soft or SoftState())[0]

    def pass_time(self, ms: int, *, idle: bool = False) -> None:
        """Let catalog time advance without a jump; `idle`: leave the session to expire."""
        while ms > 0:
            step = min(ms, 50 * MINUTE_MS)
            self.now_ms += step
            ms -= step
            self.apply(*([] if idle else [self.next(AbortUpload(upload=b""))]))

    def collect(self) -> AnyResult:
        """One step of collection."""
        self.now_ms += 10
        return self.apply(Entry(0, 0, Collect(grace_ms=0)))[0]

    def form(self, nodes: int = 3) -> None:
        """Form a cluster of nodes blob-1.. with one disk each, numbered from 1, and a bucket."""
        self.run(form_command())
        for number in range(1, nodes + 1):
            self.run(register_command(number))
        self.run(CreateBucket(bucket="bucket"))

    def put(self, key: str, *drafts: StripeDraft, bucket: str = "bucket") -> AnyResult:
        """An object of one or two stripes."""
        attributes = ObjectAttributes(size_bytes=sum(draft.plain_bytes for draft in drafts))
        body = StripesBody(stripes=drafts)
        return self.run(PutObject(bucket=bucket, key=key, attributes=attributes, body=body))

    def put_inline(self, key: str, data: bytes, bucket: str = "bucket") -> AnyResult:
        """A small object."""
        return self.run(self.put_command(key, data, bucket))

    def put_command(self, key: str, data: bytes, bucket: str = "bucket") -> PutObject:
        """That stores a small object."""
        attributes = ObjectAttributes(size_bytes=len(data))
        return PutObject(bucket=bucket, key=key, attributes=attributes, body=InlineBody(data=data))

    def new_id(self) -> StripeId:
        """A stripe id born now."""
        self._stripes += 1
        born_ms = self.catalog.head.catalog_time_ms
        return stripe_id(born_ms, self._stripes.to_bytes(10, "big"))

    def draft(
        self,
        content: int,
        *,
        stripe: StripeId | None = None,
        states: tuple[int, ...] = (0, 0, 0),
        disks: tuple[int, ...] = (1, 2, 3),
        plain_bytes: int = 1000,
        copies: bool = False,
    ) -> StripeDraft:
        """A stripe of 2+1 (or three copies) whose bytes are those of number `content`."""
        slots = tuple(
            Slot(index, 0, disk, SlotState(state))
            for index, (disk, state) in enumerate(zip(disks, states, strict=True))
        )
        return StripeDraft(
            stripe=stripe or self.new_id(),
            profile=TWO_ONE,
            domain=b"",
            digest=content.to_bytes(32, "big"),
            plain_bytes=plain_bytes,
            stored_bytes=plain_bytes,
            stored_crc=content,
            frames=(),
            coding=replicas(3) if copies else reed_solomon(TWO_ONE),
            shard_bytes=plain_bytes if copies else (plain_bytes + 1) // 2,
            shard_crcs=(1, 2, 3),
            slots=slots,
        )


def form_command() -> FormCluster:
    return FormCluster(
        cluster_id=CLUSTER,
        catalog_key_wrapped=b"wrapped",
        root_access_key="ROOT",
        root_secret_sealed=b"sealed",
        system_token_digest=b"t" * 32,
        gc_grace_ms=GRACE_MS,
    )


def register_command(number: int, *, epoch: int = 0, node: str = "") -> RegisterNode:
    return RegisterNode(
        node=node or f"blob-{number}",
        url=f"http://blob-{number}:9201",
        zone="",
        cluster_id=CLUSTER,
        disks=(DiskReport(uuid=disk_uuid(number), epoch=epoch, capacity_bytes=10**12),),
    )


def disk_uuid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def refusal(result: object) -> str:
    """The code of a refusal; empty for anything else."""
    return result.refusal if isinstance(result, Refused) else ""

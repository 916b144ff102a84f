"""Objects in the catalog of a node, one stripe each, whose first slot is meant to be here."""

from osscore.digests import crc32c
from osscore.model import (
    ObjectAttributes,
    Profile,
    ShardIdentity,
    Slot,
    SlotState,
    StripeDraft,
    replicas,
)
from osscore.names import stripe_id
from raftmeta.commands import (
    CreateBucket,
    Done,
    MarkBad,
    ObjectPut,
    PutObject,
    StripesBody,
)
from raftmeta.queries import ExpectedSlots, SlotsExpected
from tests.blobd.parts import CODING, Node
from tests.blobd.test_collect import elsewhere


def body_of(number: int) -> bytes:
    """The whole content of object `number`, and of each of its shards."""
    return b"%06d as it was written " % number * 400


async def name_objects(found: Node, states: list[SlotState]) -> list[ShardIdentity]:
    """One object for each of these states of the slot here; nothing is stored yet."""
    await found.meta.propose(CreateBucket(bucket="bucket"), Done)
    others = [await elsewhere(found, number) for number in (2, 3)]
    return [await _name(found, number, state, others) for number, state in enumerate(states)]


async def store_shard(
    found: Node, shard: ShardIdentity, number: int, *, is_other: bool = False
) -> None:
    """Put the shard of object `number` where it belongs; `is_other`: of other bytes."""
    body = body_of(number)[::-1] if is_other else body_of(number)
    await found.first.store.put(shard, CODING, crc32c(body), body)


async def states_of(found: Node) -> dict[ShardIdentity, SlotState]:
    """What the catalog believes of the slots here."""
    told = await found.meta.query(ExpectedSlots(disk=found.first.number), SlotsExpected)
    return {slot.identity: SlotState(slot.state) for slot in told.slots}


async def _name(found: Node, number: int, state: SlotState, others: list[int]) -> ShardIdentity:
    stripe = stripe_id(found.clock.now_ms(), number.to_bytes(10, "big"))
    body = body_of(number)
    here = SlotState.MISSING if state is SlotState.MISSING else SlotState.GOOD
    slots = (
        Slot(0, 0, found.first.number, here),
        *(Slot(index, 0, disk) for index, disk in enumerate(others, start=1)),
    )
    draft = StripeDraft(
        stripe=stripe,
        profile=Profile(2, 1),
        domain=b"",
        digest=number.to_bytes(32, "big"),
        plain_bytes=len(body),
        stored_bytes=len(body),
        stored_crc=1,
        frames=(),
        coding=replicas(3),
        shard_bytes=len(body),
        shard_crcs=(crc32c(body),) * 3,
        slots=slots,
    )
    command = PutObject(
        bucket="bucket",
        key=f"key-{number}",
        attributes=ObjectAttributes(size_bytes=len(body), sha256=bytes(32)),
        body=StripesBody(stripes=(draft,)),
    )
    await found.meta.propose(command, ObjectPut)
    shard = ShardIdentity(stripe, 0, 0)
    if state is SlotState.BAD:
        await found.meta.propose(MarkBad(identity=shard, disk=found.first.number), Done)
    return shard

"""Profiles are parsed strictly; packed slots are a format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.errors import InvalidArgument
from osscore.model import (
    Coding,
    CodingKind,
    ObjectAttributes,
    Profile,
    Slot,
    SlotState,
    VersionInfo,
    pack_slots,
    reed_solomon,
    replicas,
    unpack_slots,
)

SLOTS = st.builds(
    Slot,
    index=st.integers(0, 255),
    gen=st.integers(0, 2**64 - 1),
    disk=st.integers(0, 2**32 - 1),
    state=st.sampled_from(SlotState),
)


@given(st.integers(1, 16), st.integers(1, 8))
def test_a_profile_reads_what_it_writes(data_count, parity_count):
    profile = Profile(data_count, parity_count)
    assert Profile.parse(str(profile)) == profile
    assert profile.shard_count == data_count + parity_count


@pytest.mark.parametrize(
    "text",
    [
        *("", "4", "4+", "+2", "4-2", "0+1", "17+1", "4+0", "4+9", "a+b", "04+2", "٤+2", "4+2\n"),
        *("9" * 5000 + "+2", "4+" + "9" * 5000),
    ],
)
def test_a_profile_that_is_none_is_refused(text):
    with pytest.raises(InvalidArgument):
        Profile.parse(text)


def test_golden_bytes_of_packed_slots():
    slots = [Slot(0, 0, 7), Slot(1, 258, 65_536, SlotState.BAD)]
    assert pack_slots(slots).hex() == "00000000000000000000070000000102020100000000000000000100"


@given(st.lists(SLOTS))
def test_slots_come_back_from_their_packed_form(slots):
    assert list(unpack_slots(pack_slots(slots))) == slots


def test_codings_count_their_shards():
    assert reed_solomon(Profile(4, 2)) == Coding(CodingKind.REED_SOLOMON, 4, 2)
    assert replicas(3) == Coding(CodingKind.REPLICA, 1, 2)
    assert (reed_solomon(Profile(4, 2)).shard_count, replicas(3).shard_count) == (6, 3)


def test_the_etag_is_the_sha256_or_else_the_md5():
    def etag(**digests: bytes) -> str:
        attributes = ObjectAttributes(size_bytes=1, **digests)
        return VersionInfo(
            bucket="b", key="k", number=1, version_id="v", is_marker=False, is_latest=True,
            created_at_ms=0, attributes=attributes,
        ).etag  # fmt: skip

    assert etag(sha256=b"\x01" * 32, md5=b"\x02" * 16) == "01" * 32
    assert etag(md5=b"\x02" * 16) == "02" * 16

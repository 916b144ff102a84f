"""Raft links over real sockets: who gets in, and what garbage does."""

import logging
import socket
import time
from collections.abc import Callable

import pytest
from pysyncobj.poller import PollPoller

from ossd.clock import SystemClock, system_random
from ossd.signing import ClusterSecrets
from raftmeta.link_session import BadHandshake, Hello, LinkKeys, Session
from raftmeta.membership import Membership
from raftmeta.messages import AnyMessage, Append, Entry, KeepAlive, TermHeld
from raftmeta.settings import RaftIdentity, RaftSettings
from raftmeta.tcp_links import TcpLinks, split_address
from raftmeta.transport import RaftTransport, Waker
from tests.raftmeta.replicas import CLUSTER_ID, SECRETS, configuration, free_ports


class End:
    """One member's links, polled by the test."""

    def __init__(
        self,
        member: str,
        members: dict[str, str],
        *,
        secrets: ClusterSecrets = SECRETS,
        cluster_id: bytes = CLUSTER_ID,
        settings: RaftSettings | None = None,
    ) -> None:
        self.received: list[tuple[str, AnyMessage]] = []
        self.up: set[str] = set()
        self.poller = PollPoller()
        self.links = TcpLinks(
            identity=RaftIdentity(member, members[member], cluster_id),
            membership=Membership(member, configuration(members)),
            secrets=secrets,
            settings=settings or RaftSettings(),
            monotonic_s=SystemClock().monotonic_s,
            random=system_random,
        )
        self.links.start(
            self.poller,
            on_message=lambda source, message: self.received.append((source, message)),
            on_change=lambda other, up: (self.up.add if up else self.up.discard)(other),
        )

    def step(self) -> None:
        self.links.step()
        self.poller.poll(0.005)


def until(holds: Callable[[], object], *ends: End, within_s: float = 15) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        for end in ends:
            end.step()


@pytest.fixture
def members() -> dict[str, str]:
    return {f"m{at}": f"127.0.0.1:{port}" for at, port in enumerate(free_ports(2), 1)}


@pytest.fixture
def pair(members):
    ends = End("m1", members), End("m2", members)
    until(lambda: ends[0].up and ends[1].up, *ends)
    yield ends
    for end in ends:
        end.links.close()


def test_messages_arrive_whole_and_in_order_whatever_their_size(pair):
    one, two = pair
    sent = [Append(1, n, 1, 0, (Entry(1, bytes([n]) * (n * 40_000)),)) for n in range(60)]
    for message in sent:
        assert one.links.send("m2", message)
        one.step()
    until(lambda: len(two.received) == len(sent), one, two)
    assert two.received == [("m1", message) for message in sent]
    assert two.links.send("m1", TermHeld(1, 2))
    until(lambda: one.received, one, two)
    assert one.received == [("m2", TermHeld(1, 2))]


def test_peer_that_reads_nothing_gets_no_more_than_a_bound(pair):
    one, _two = pair
    big = Append(1, 0, 0, 0, (Entry(1, bytes(4 << 20)),))
    until(lambda: not (one.links.send("m2", big) and one.links.has_room("m2")))
    assert not one.links.has_room("m2")


def test_link_comes_back_after_it_was_dropped(pair):
    one, two = pair
    one.links.drop("m2")
    assert one.up == set() and not one.links.send("m2", KeepAlive())
    until(lambda: not two.up, one, two)
    until(lambda: one.up and two.up, one, two)


def test_silent_peer_is_dropped(members):
    settings = RaftSettings(link_timeout_s=0.3, keep_alive_s=60.0)
    one, two = End("m1", members, settings=settings), End("m2", members, settings=settings)
    until(lambda: one.up and two.up, one, two)
    until(lambda: not one.up, one)
    one.links.close()
    two.links.close()


@pytest.mark.parametrize(
    "stranger",
    [
        {"secrets": ClusterSecrets(current="some quite different secret")},
        {"cluster_id": b"another cluster!"},
    ],
    ids=["secret", "cluster"],
)
def test_member_of_another_cluster_never_gets_a_link(members, stranger, caplog):
    one, two = End("m1", members), End("m2", members, **stranger)
    with caplog.at_level(logging.WARNING):
        until(lambda: "raft_link_refused" in caplog.messages, one, two)
    assert not one.up and not two.up
    one.links.close()
    two.links.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ClusterSecrets(current="x" * 20), ClusterSecrets(current="x" * 20, previous="y" * 20)),
        (
            ClusterSecrets(current="x" * 20, previous="y" * 20),
            ClusterSecrets(current="y" * 20, previous="x" * 20),
        ),
        (ClusterSecrets(current="y" * 20, previous="x" * 20), ClusterSecrets(current="y" * 20)),
    ],
    ids=["add", "switch", "remove"],
)
@pytest.mark.parametrize("flip", [False, True])
def test_members_between_two_passes_of_a_rotation_reach_each_other(members, before, after, flip):
    if flip:
        before, after = after, before
    one, two = End("m1", members, secrets=before), End("m2", members, secrets=after)
    until(lambda: one.up and two.up, one, two)
    one.links.close()
    two.links.close()


def test_member_that_the_other_does_not_know_yet_reaches_it_all_the_same(members):
    # m3 should connect, but its log ends before m1 was added.
    (known, first), (_, second) = members.items()
    settings = RaftSettings(dial_anyway_s=0.2)
    newer = End(known, {known: first, "m3": second}, settings=settings)
    older = End("m3", {"m3": second}, settings=settings)
    until(lambda: newer.up and older.up, newer, older)
    assert (newer.up, older.up) == ({"m3"}, {known})
    for end in (newer, older):
        end.links.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        b"\x80\x04\x95" + b"c__builtin__\nexec\n" * 20,
        b"OSSRAFT1" + b"k" * 40,
        b"\x00" * 5000,
    ],
    ids=["http", "pickle", "unknown key", "zeros"],
)
def test_garbage_is_dropped_and_logged_once(members, garbage, caplog):
    one = End("m1", members)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with socket.create_connection(split_address(members["m1"])) as stranger:
                stranger.sendall(garbage)
                stranger.settimeout(0.01)
                until(lambda s=stranger: _is_closed(s), one)
    assert caplog.messages.count("raft_link_refused") == 1
    assert one.received == [] and not one.up
    one.links.close()


def test_peer_that_knows_the_hello_but_no_key_is_not_decoded(members, caplog):
    one = End("m1", members)
    hello = Hello(LinkKeys(SECRETS).current_id, b"n" * 32).pack()
    with socket.create_connection(split_address(members["m1"])) as stranger:
        stranger.sendall(hello + (900).to_bytes(4, "little") + b"z" * 900)
        stranger.settimeout(0.01)
        until(lambda: _is_closed(stranger), one)
    with socket.create_connection(split_address(members["m1"])) as stranger:
        stranger.sendall(hello + (1 << 30).to_bytes(4, "little"))
        stranger.settimeout(0.01)
        until(lambda: _is_closed(stranger), one)
    assert one.received == [] and not one.up
    one.links.close()


def test_strangers_that_say_nothing_are_bounded_in_number_and_time(members):
    one = End("m1", members, settings=RaftSettings(connect_timeout_s=0.2))
    strangers = [socket.create_connection(split_address(members["m1"])) for _ in range(50)]
    until(lambda: len(one.links._strangers) == 32, one)
    until(lambda: not one.links._strangers, one)
    for stranger in strangers:
        stranger.close()
    one.links.close()


def _is_closed(stranger: socket.socket) -> bool:
    try:
        while stranger.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_frame_that_is_replayed_or_reordered_does_not_open():
    nonces = {"connector_nonce": b"c" * 32, "acceptor_nonce": b"a" * 32}
    sender = Session.derive(b"k" * 32, connector=True, **nonces)
    receiver = Session.derive(b"k" * 32, connector=False, **nonces)
    first, second = sender.seal(b"first"), sender.seal(b"second")
    assert receiver.open(first) == b"first"
    with pytest.raises(BadHandshake):
        receiver.open(first)
    other = Session.derive(b"k" * 32, connector=False, **nonces)
    with pytest.raises(BadHandshake):
        other.open(second)
    reflected = Session.derive(b"k" * 32, connector=True, **nonces)
    with pytest.raises(BadHandshake):
        reflected.open(first)


def test_library_may_send_nothing_but_votes():
    transport = RaftTransport(None)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="append_entries"):
        transport.send(None, {"type": "append_entries"})


def test_library_reads_and_writes_no_pickle():
    import pysyncobj.pickle

    for name in ("loads", "load", "dumps", "dump"):
        with pytest.raises(RuntimeError, match="no pickle"):
            getattr(pysyncobj.pickle, name)(b"\x80\x04N.")


def test_waker_ends_a_poll_every_time():
    poller = PollPoller()
    waker = Waker(poller)
    for _ in range(3):
        waker.wake()
        waker.wake()
        began_s = time.monotonic()
        poller.poll(10)
        assert time.monotonic() - began_s < 5
    waker.close()
    waker.wake()

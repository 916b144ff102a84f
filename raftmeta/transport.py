"""Between the library, the protocol around it, and the links that carry messages."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj.node import Node
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.transport import Transport

from raftmeta.messages import AnyMessage, AskVote, Vote


class Links(Protocol):
    """Carries messages to other members, in order per member or not at all.

    Nothing is promised of delivery; a member's word is authentic. All calls and callbacks
    belong to the tick thread.
    """

    def start(
        self,
        poller: Any,
        *,
        on_message: Callable[[str, AnyMessage], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        """Begin to listen and connect; `on_change(member, up)` as links come and go."""

    def send(self, member: str, message: AnyMessage) -> bool:
        """Queue a message; False if there is no link."""

    def has_room(self, member: str) -> bool:
        """Whether the link is up and not clogged."""

    def drop(self, member: str) -> None:
        """Cut the link and whatever is on its way in."""

    def step(self) -> None:
        """Called each tick: connect, keep alive, give up what is stuck."""

    def close(self) -> None:
        """Cut all links and stop listening."""


class RaftTransport(Transport):  # type: ignore[misc]  # the library has no types
    """What the library sees of the network: votes only, everything else is ours."""

    def __init__(self, links: Links, *, by_order: Callable[[], bool] = lambda: False) -> None:
        """`by_order`: whether the present candidacy is one the leader asked for."""
        super().__init__(None, None, ())
        self._links = links
        self._by_order = by_order

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Translate what the library itself still says."""
        if message["type"] == "request_vote":
            asked = AskVote(
                message["term"],
                message["last_log_index"],
                message["last_log_term"],
                self._by_order(),
            )
            return self._links.send(node.id, asked)
        if message["type"] == "response_vote":
            # Term and vote were durable before the library came here (Journal.set_term).
            return self._links.send(node.id, Vote(message["term"]))
        raise RuntimeError(f"the library sent {message['type']}, which is ours to send")

    def deliver_ask_vote(self, member: str, asked: AskVote) -> None:
        """Let the library decide about a candidate."""
        fields = {"last_log_index": asked.last_index, "last_log_term": asked.last_term}
        self._onMessageReceived(Node(member), {"type": "request_vote", "term": asked.term} | fields)

    def deliver_vote(self, member: str, vote: Vote) -> None:
        """Let the library count a vote."""
        self._onMessageReceived(Node(member), {"type": "response_vote", "term": vote.term})

    def link_changed(self, member: str, up: bool) -> None:
        """A link came or went."""
        if up:
            self._onNodeConnected(Node(member))
        else:
            self._onNodeDisconnected(Node(member))


class Waker:
    """Ends the poll of a tick early; `wake` may be called from any thread."""

    def __init__(self, poller: Any) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._poller = poller
        self._lock = threading.Lock()
        self._woken = False
        self._closed = False
        poller.subscribe(self._reader.fileno(), self._on_byte, POLL_EVENT_TYPE.READ)

    def wake(self) -> None:
        """Let the poll that runs, or the next one, return at once."""
        with self._lock:
            if not self._woken and not self._closed:
                self._woken = True
                self._writer.send(b"w")

    def _on_byte(self, _descriptor: int, _events: int) -> None:
        # Read before clearing: a byte written in between would be taken with its flag
        # still set, and nobody would be woken again.
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(64)
        with self._lock:
            self._woken = False

    def close(self) -> None:
        """Free the sockets; later calls of `wake` do nothing."""
        with self._lock:
            self._closed = True
            self._poller.unsubscribe(self._reader.fileno())
            self._reader.close()
            self._writer.close()

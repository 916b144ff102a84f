"""Between the library, the protocol around it, and the links that carry messages."""

from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj.node import Node
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

    def __init__(self, links: Links) -> None:
        super().__init__(None, None, ())
        self._links = links

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Translate what the library itself still says."""
        if message["type"] == "request_vote":
            asked = AskVote(message["term"], message["last_log_index"], message["last_log_term"])
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

"""Raft links over TCP: one connection for each pair of members.

The member with the greater id connects, the other listens; unless it hears nothing for long:
then it connects as well, for the greater may not know that there is such a member. Names are
looked up and connections made in short-lived threads, since both may hang and the tick must
not.
"""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from pysyncobj.poller import POLL_EVENT_TYPE

from ossd.clock import RandomBytes
from raftmeta.link_session import NONCE_BYTES, BadHandshake, Introduction, KeySource, LinkKeys
from raftmeta.membership import Membership
from raftmeta.messages import AnyMessage, KeepAlive
from raftmeta.settings import MIB, RaftIdentity, RaftSettings
from raftmeta.tcp_link import TcpLink

log = logging.getLogger(__name__)

_STRANGERS_MAX = 32  # connections that have not proved anything yet
_ACCEPTS_MAX = 4  # a round: a member must have some rounds to prove itself before it is ousted
_BACKLOG = 1024
_COMPLAINTS_MAX = 256  # distinct complaints that are logged, each once


class TcpLinks:
    """Implements raftmeta.transport.Links."""

    def __init__(
        self,
        *,
        identity: RaftIdentity,
        membership: Membership,
        secrets: KeySource,
        settings: RaftSettings,
        monotonic_s: Callable[[], float],
        random: RandomBytes,
    ) -> None:
        self._identity = identity
        self._membership = membership
        self._keys = LinkKeys(secrets)
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._random = random
        self._links: dict[str, TcpLink] = {}
        self._strangers: list[TcpLink] = []
        self._dialling: set[str] = set()
        self._dialled: deque[tuple[str, socket.socket | None]] = deque()
        self._dial_after_s: dict[str, float] = {}
        self._missing_since_s: dict[str, float] = {}
        self._kept_alive_s = 0.0
        self._complained: set[tuple[str, str]] = set()
        self._listener: socket.socket | None = None
        self._closed = False

    def start(
        self,
        poller: Any,
        *,
        on_message: Callable[[str, AnyMessage], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        """Listen; connections are made in `step`. Raises OSError if the address is taken."""
        self._poller = poller
        self._on_message = on_message
        self._on_change = on_change
        host, port = split_address(self._identity.bind)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        poller.subscribe(listener.fileno(), self._on_connection, POLL_EVENT_TYPE.READ)

    # --- what the protocol asks for -----------------------------------------------------

    def send(self, member: str, message: AnyMessage) -> bool:
        """See Links."""
        link = self._links.get(member)
        return link is not None and link.send(message)

    def has_room(self, member: str) -> bool:
        """See Links."""
        link = self._links.get(member)
        return link is not None and link.pending_bytes <= self._settings.link_pending_bytes_max

    def drop(self, member: str) -> None:
        """See Links."""
        link = self._links.get(member)
        if link is not None:
            link.close("dropped on purpose")

    def step(self) -> None:
        """See Links."""
        now_s = self._monotonic_s()
        self._take_dialled(now_s)
        self._connect_missing(now_s)
        for link in list(self._strangers):
            if now_s - link.opened_s > self._settings.connect_timeout_s:
                link.close("the handshake took too long")
        for link in list(self._links.values()):
            if link.heard_since_last_look(now_s) > self._settings.link_timeout_s:
                link.close("silent for too long")
        if now_s - self._kept_alive_s >= self._settings.keep_alive_s:
            # Followers have nothing to say to each other, and yet an election needs their
            # link at once.
            self._kept_alive_s = now_s
            for link in list(self._links.values()):
                link.send(KeepAlive())

    def close(self) -> None:
        """See Links."""
        self._closed = True
        if self._listener is not None:
            self._poller.unsubscribe(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for link in [*self._strangers, *self._links.values()]:
            link.close("this member stops")
        self._take_dialled(0.0)

    # --- connecting ---------------------------------------------------------------------

    def _connect_missing(self, now_s: float) -> None:
        followers = self._membership.followers
        for member in followers:
            if member in self._links:
                self._missing_since_s.pop(member, None)
                continue
            missing_s = now_s - self._missing_since_s.setdefault(member, now_s)
            # Whoever does not know of this member yet, because its log does not reach so
            # far, will never connect to it.
            if self._identity.member_id > member or missing_s > self._settings.dial_anyway_s:
                self._dial(member, now_s)
        for member in self._missing_since_s.keys() - set(followers):
            del self._missing_since_s[member]

    def _dial(self, member: str, now_s: float) -> None:
        busy = any(link.connector and link.dialled == member for link in self._strangers)
        if busy or member in self._dialling or now_s < self._dial_after_s.get(member, 0.0):
            return
        self._dial_after_s[member] = now_s + self._settings.reconnect_s
        self._dialling.add(member)
        threading.Thread(
            target=self._connect,
            args=(member, self._membership.address(member)),
            name=f"raft-dial-{member}",
            daemon=True,
        ).start()

    def _connect(self, member: str, address: str) -> None:
        connection = None
        try:
            timeout_s = self._settings.connect_timeout_s
            connection = socket.create_connection(split_address(address), timeout_s)
        except (OSError, ValueError):
            pass  # tried again later; that a member is away shows elsewhere
        self._dialled.append((member, connection))

    def _take_dialled(self, now_s: float) -> None:
        while self._dialled:
            member, connection = self._dialled.popleft()
            self._dialling.discard(member)
            if connection is None:
                continue
            if self._closed or member in self._links:
                connection.close()
                continue
            self._open(connection, now_s, dialled=member)

    def _on_connection(self, _descriptor: int, _events: int) -> None:
        # A flood of strangers must not fill the backlog: a member's attempt would be lost
        # there and come again only after a second.
        for _ in range(_ACCEPTS_MAX):
            if self._listener is None or self._closed:
                return
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return  # nobody waits, it went away again, or there are no descriptors left
            if len(self._strangers) >= _STRANGERS_MAX:
                self._strangers[0].close("too many strangers")
            self._open(connection, self._monotonic_s(), dialled=None)

    def _open(self, connection: socket.socket, now_s: float, *, dialled: str | None) -> None:
        try:
            address = str(connection.getpeername()[0])
        except OSError:
            connection.close()
            return
        link = TcpLink(
            connection,
            dialled=dialled,
            address=address,
            keys=self._keys,
            nonce=self._random(NONCE_BYTES),
            introduction=self._introduction(dialled) if dialled is not None else None,
            poller=self._poller,
            # An entry, its framing, and a little.
            frame_bytes_max=max(self._settings.entry_bytes_max, self._settings.append_bytes_max)
            + MIB,
            now_s=now_s,
            on_peer=self._on_peer,
            on_message=self._on_link_message,
            on_closed=self._on_closed,
        )
        if not link.closed:
            self._strangers.append(link)

    def _introduction(self, to: str) -> Introduction:
        return Introduction(self._identity.member_id, self._identity.cluster_id, to)

    def _on_peer(self, link: TcpLink, theirs: Introduction) -> None:
        if theirs.cluster_id != self._identity.cluster_id:
            raise BadHandshake("it belongs to another cluster")
        if theirs.to != self._identity.member_id:
            raise BadHandshake(f"it looks for member {theirs.to!r} here")
        # Whom this member does not know may be one that was added since its log ends. It knows
        # the cluster secret: what its word counts for is judged where it is counted.
        if theirs.member == self._identity.member_id or link.dialled not in (None, theirs.member):
            raise BadHandshake(f"it calls itself {theirs.member!r}, which is not expected here")
        older = self._links.get(theirs.member)
        if older is not None:
            older.close("replaced by a newer link")
        link.accept_peer(
            theirs.member, None if link.connector else self._introduction(theirs.member)
        )
        if link.closed:
            return
        self._strangers.remove(link)
        self._links[theirs.member] = link
        self._on_change(theirs.member, True)

    def _on_link_message(self, link: TcpLink, message: AnyMessage) -> None:
        if link.peer is not None and not isinstance(message, KeepAlive):
            self._on_message(link.peer, message)

    def _on_closed(self, link: TcpLink, reason: str) -> None:
        if link in self._strangers:
            self._strangers.remove(link)
            self._complain(link.address, reason)
        elif link.peer is not None and self._links.get(link.peer) is link:
            del self._links[link.peer]
            self._on_change(link.peer, False)
            log.info("raft_link_down", extra={"member": link.peer, "reason": reason})

    def _complain(self, address: str, reason: str) -> None:
        # Once: whoever scans ports must not fill the log.
        complaint = (address, reason)
        known = complaint in self._complained or len(self._complained) >= _COMPLAINTS_MAX
        if not known and not self._closed:
            self._complained.add(complaint)
            log.warning("raft_link_refused", extra={"address": address, "reason": reason})


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[v6]:port` included."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)

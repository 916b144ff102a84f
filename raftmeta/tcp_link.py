"""One TCP connection between two members, from handshake to close.

Frames are a 4-byte length and a sealed body. Until the peer is known, frames are at most
INTRODUCTION_BYTES_MAX long and nothing but an Introduction is decoded.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from pysyncobj.poller import POLL_EVENT_TYPE

from raftmeta.link_session import (
    HELLO_BYTES,
    NONCE_BYTES,
    SEAL_BYTES,
    BadHandshake,
    Hello,
    Introduction,
    LinkKeys,
    Session,
)
from raftmeta.messages import AnyMessage

INTRODUCTION_BYTES_MAX = 1024
_LENGTH = struct.Struct("<I")
_RECEIVE_BYTES = 256 * 1024
_RECEIVES_PER_EVENT = 16


class TcpLink:
    """Belongs to the tick thread. `on_peer` and `on_message` may raise BadHandshake to cut
    the link; `on_closed(link, reason)` is called once."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        dialled: str | None,
        address: str,
        keys: LinkKeys,
        nonce: bytes,
        introduction: Introduction | None,
        poller: Any,
        frame_bytes_max: int,
        now_s: float,
        on_peer: Callable[["TcpLink", Introduction], None],
        on_message: Callable[["TcpLink", AnyMessage], None],
        on_closed: Callable[["TcpLink", str], None],
    ) -> None:
        assert len(nonce) == NONCE_BYTES
        self.peer: str | None = None
        self.dialled = dialled  # the member we meant to reach; None: it came to us
        self.address = address
        self.opened_s = now_s
        self.heard_bytes = 0
        self.heard_s = now_s
        self.pending_bytes = 0
        self._socket = connection
        self._keys = keys
        self._nonce = nonce
        self._introduction = introduction
        self._poller = poller
        self._frame_bytes_max = frame_bytes_max
        self._on_peer = on_peer
        self._on_message = on_message
        self._on_closed = on_closed
        self._session: Session | None = None
        self._inbox = bytearray()
        self._outbox: deque[memoryview] = deque()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)
        self.closed = False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._descriptor = connection.fileno()
        self._watch()
        if self.connector:
            self._write(Hello(keys.current_id, nonce).pack())

    @property
    def connector(self) -> bool:
        """Whether this end made the connection."""
        return self.dialled is not None

    # --- sending ------------------------------------------------------------------------

    def send(self, message: AnyMessage) -> bool:
        """Queue a message to a known peer; False if the link broke."""
        if self.closed or self.peer is None:
            return False
        self._write_frame(self._encoder.encode(message))
        return not self.closed

    def _write_frame(self, plain: bytes) -> None:
        assert self._session is not None
        sealed = self._session.seal(plain)
        self._write(_LENGTH.pack(len(sealed)) + sealed)

    def _write(self, data: bytes) -> None:
        idle = not self._outbox
        self._outbox.append(memoryview(data))
        self.pending_bytes += len(data)
        if idle:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                sent = self._socket.send(self._outbox[0])
                self.pending_bytes -= sent
                if sent < len(self._outbox[0]):
                    self._outbox[0] = self._outbox[0][sent:]
                else:
                    self._outbox.popleft()
        except BlockingIOError:
            pass  # the rest goes when the poller says so
        except OSError as error:
            self.close(f"sending failed: {error}")
            return
        self._watch()

    def _watch(self) -> None:
        events = POLL_EVENT_TYPE.READ | POLL_EVENT_TYPE.ERROR
        if self._outbox:
            events |= POLL_EVENT_TYPE.WRITE
        if not self.closed:
            self._poller.subscribe(self._descriptor, self._on_event, events)

    # --- receiving ----------------------------------------------------------------------

    def _on_event(self, _descriptor: int, events: int) -> None:
        if self.closed:
            return
        if events & POLL_EVENT_TYPE.WRITE:
            self._flush()
        if events & (POLL_EVENT_TYPE.READ | POLL_EVENT_TYPE.ERROR) and not self.closed:
            self._receive()

    def _receive(self) -> None:
        ended = ""
        for _ in range(_RECEIVES_PER_EVENT):
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                ended = f"receiving failed: {error}"
                break
            if not data:
                ended = "the peer closed the link"
                break
            self.heard_bytes += len(data)
            self._inbox += data
            if len(data) < _RECEIVE_BYTES:
                break
        try:
            self._read_inbox()
        except (BadHandshake, msgspec.MsgspecError) as error:
            self.close(f"bad peer: {error}")
        if ended:
            self.close(ended)

    def _read_inbox(self) -> None:
        while not self.closed:
            if self._session is None:
                if not self._read_hello():
                    return
                continue
            if len(self._inbox) < _LENGTH.size:
                return
            (length,) = _LENGTH.unpack_from(self._inbox)
            limit = INTRODUCTION_BYTES_MAX if self.peer is None else self._frame_bytes_max
            if not SEAL_BYTES <= length <= limit:
                raise BadHandshake(f"a frame of {length} bytes")
            end = _LENGTH.size + length
            if len(self._inbox) < end:
                return
            sealed = bytes(memoryview(self._inbox)[_LENGTH.size : end])
            del self._inbox[:end]
            self._read_frame(self._session.open(sealed))

    def _read_hello(self) -> bool:
        if len(self._inbox) < HELLO_BYTES:
            return False
        theirs = Hello.parse(bytes(self._inbox[:HELLO_BYTES]))
        del self._inbox[:HELLO_BYTES]
        key = self._keys.find(theirs.key_id)
        if self.connector:
            if theirs.key_id != self._keys.current_id:
                raise BadHandshake("it answers with another cluster secret")
            nonces = (self._nonce, theirs.nonce)
        else:
            nonces = (theirs.nonce, self._nonce)
            self._write(Hello(theirs.key_id, self._nonce).pack())
        self._session = Session.derive(
            key, connector_nonce=nonces[0], acceptor_nonce=nonces[1], connector=self.connector
        )
        if self.connector:
            self._write_frame(msgspec.msgpack.encode(self._introduction))
        return True

    def _read_frame(self, plain: bytes) -> None:
        if self.peer is not None:
            self._on_message(self, self._decoder.decode(plain))
            return
        introduction = msgspec.msgpack.decode(plain, type=Introduction)
        self._on_peer(self, introduction)

    def accept_peer(self, member: str, answer: Introduction | None) -> None:
        """The peer is who it says; an acceptor answers with its own introduction."""
        if answer is not None:
            self._write_frame(msgspec.msgpack.encode(answer))
        self.peer = member

    # --- the end ------------------------------------------------------------------------

    def heard_since_last_look(self, now_s: float) -> float:
        """Seconds since the last look that found something new arrived."""
        if self.heard_bytes:
            self.heard_bytes = 0
            self.heard_s = now_s
        return now_s - self.heard_s

    def close(self, reason: str) -> None:
        """Cut the link; what was not sent or read yet is lost."""
        if self.closed:
            return
        self.closed = True
        self._poller.unsubscribe(self._descriptor)
        self._socket.close()
        self._outbox.clear()
        self._inbox.clear()
        self.pending_bytes = 0
        self._on_closed(self, reason)

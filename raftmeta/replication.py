"""Moving log entries from the leader to the followers.

Follower: an acknowledgement leaves only after the entries are synced, carries the term,
and is dropped if the term has changed meanwhile. The log is truncated only where an entry
truly contradicts the leader's, never below the commit index.

Leader: counts an acknowledgement only of its present term; sends on without waiting
(entries in flight are bounded by what the link holds back); tells a follower whose next
entry is no longer in the log to install a copy.
"""

from collections.abc import Callable

from osscore.errors import CorruptJournal
from raftmeta.journal import Journal
from raftmeta.membership import Membership
from raftmeta.messages import AnyMessage, Append, Appended, Behind, Entry, Mismatch
from raftmeta.pysync import Core
from raftmeta.settings import RaftSettings


class Replication:
    """Both halves; belongs to the tick thread."""

    def __init__(
        self,
        *,
        core: Core,
        journal: Journal,
        membership: Membership,
        settings: RaftSettings,
        send: Callable[[str, AnyMessage], bool],
        has_room: Callable[[str], bool],
        heard_leader: Callable[[], None],
        on_lag: Callable[[], None],
    ) -> None:
        self._core = core
        self._journal = journal
        self._membership = membership
        self._settings = settings
        self._send = send
        self._has_room = has_room
        self._heard_leader = heard_leader
        self._on_lag = on_lag
        self._lagging = False
        self._acks: dict[str, Appended] = {}

    # --- follower -----------------------------------------------------------------------

    def on_append(self, leader: str, message: Append) -> None:
        """Take entries from the leader of this or a newer term."""
        if not self._accept_leader(leader, message.term):
            return
        message = self._beyond_base(message)
        mine = self._journal.term_at(message.prev_index)
        if mine != message.prev_term:
            self._send(leader, Mismatch(self._core.term, self._resume_at(message, mine)))
            return
        self._take(message)
        self._lagging = False
        end = message.prev_index + len(message.entries)
        # Beyond `end` this log may still hold what the leader's does not.
        commit_index = min(message.commit_index, end)
        if commit_index > self._core.commit_index:
            self._core.commit_index = commit_index
        held = self._acks.get(leader)
        if held is None or held.term != self._core.term or held.match_index < end:
            self._acks[leader] = Appended(self._core.term, end)

    def on_behind(self, leader: str, message: Behind) -> None:
        """The leader's log begins behind ours: ask once for a copy."""
        if not self._accept_leader(leader, message.term):
            return
        mine = self._journal.term_at(message.base_index)
        if mine == message.base_term:
            self._send(leader, Mismatch(self._core.term, message.base_index + 1))
            return
        self._send(leader, Mismatch(self._core.term, self._journal.last_index + 1))
        if message.base_index <= self._core.commit_index:
            if mine is not None:
                raise CorruptJournal(f"committed entry {message.base_index} differs there")
        elif not self._lagging:
            self._lagging = True
            self._on_lag()

    def release_acks(self) -> None:
        """Send what the last sync made true; called right after it."""
        acks, self._acks = self._acks, {}
        for leader, ack in acks.items():
            if ack.term == self._core.term:
                self._send(leader, ack)

    def _accept_leader(self, leader: str, term: int) -> bool:
        if term < self._core.term:
            # Let a deposed leader know.
            self._send(leader, Mismatch(self._core.term, self._journal.last_index + 1))
            return False
        if self._core.is_leader and term == self._core.term:
            raise CorruptJournal(f"two leaders in term {term}: {leader} and this member")
        self._core.follow(term, leader)
        self._heard_leader()
        return True

    def _beyond_base(self, message: Append) -> Append:
        """The same without what lies at or before our base, which is surely equal."""
        skip = self._journal.base_index - message.prev_index
        if skip <= 0 or skip > len(message.entries):
            return message
        if message.entries[skip - 1].term != self._journal.base_term:
            raise CorruptJournal(f"entry {self._journal.base_index} differs from the leader's")
        return Append(
            message.term,
            self._journal.base_index,
            self._journal.base_term,
            message.commit_index,
            message.entries[skip:],
        )

    def _resume_at(self, message: Append, mine: int | None) -> int:
        if mine is None:
            return self._journal.last_index + 1
        if message.prev_index <= self._core.commit_index:
            raise CorruptJournal(f"committed entry {message.prev_index} differs from the leader's")
        # Skip the whole term that differs, not one entry a round trip.
        index = message.prev_index
        while index - 1 > self._core.commit_index and self._journal.term_at(index - 1) == mine:
            index -= 1
        return index

    def _take(self, message: Append) -> None:
        index = message.prev_index
        for entry in message.entries:
            index += 1
            mine = self._journal.term_at(index)
            if mine == entry.term:
                continue
            if mine is not None:
                if index <= self._core.commit_index:
                    raise CorruptJournal(f"committed entry {index} differs from the leader's")
                self._journal.truncate(index)
                self._membership.truncate(index)
            self._journal.append(index, entry.term, entry.body)
            self._membership.append(index, entry.body)

    # --- leader -------------------------------------------------------------------------

    def send_appends(self) -> None:
        """To every follower: what it lacks, or a heartbeat."""
        for member in self._membership.followers:
            if self._has_room(member):
                self._send_append(member)

    def _send_append(self, member: str) -> None:
        next_index = min(self._core.next_index(member), self._journal.last_index + 1)
        if next_index <= self._journal.base_index:
            base = (self._journal.base_index, self._journal.base_term)
            self._send(member, Behind(self._core.term, *base))
            return
        found = self._journal.entries(next_index, bytes_max=self._settings.append_bytes_max)
        previous_term = self._journal.term_at(next_index - 1)
        assert previous_term is not None
        sent = self._send(
            member,
            Append(
                self._core.term,
                next_index - 1,
                previous_term,
                self._core.commit_index,
                tuple(Entry(entry.term, entry.body) for entry in found),
            ),
        )
        if sent and found:
            self._core.set_next_index(member, found[-1].index + 1)

    def on_appended(self, member: str, message: Appended) -> None:
        """Count what a follower made durable in this very term."""
        if not self._from_follower(member, message.term):
            return
        assert message.match_index <= self._journal.last_index
        if message.match_index > self._core.match_index(member):
            self._core.set_match_index(member, message.match_index)
        if message.match_index >= self._core.next_index(member):
            self._core.set_next_index(member, message.match_index + 1)
        if self._core.next_index(member) <= self._journal.last_index and self._has_room(member):
            self._send_append(member)

    def on_mismatch(self, member: str, message: Mismatch) -> None:
        """Go back to where the follower can follow, or step down if its term is higher."""
        if self._from_follower(member, message.term):
            floor = self._core.match_index(member) + 1
            self._core.set_next_index(member, max(floor, message.next_index))
            if self._core.next_index(member) > self._journal.base_index:
                # Else `Behind` goes out with the heartbeats: the answer to it comes here.
                self._send_append(member)

    def _from_follower(self, member: str, term: int) -> bool:
        if not self._membership.is_follower(member):
            # Removed, or a learner of another leader: it can neither follow nor depose.
            return False
        if term > self._core.term:
            self._core.follow(term, None)
            return False
        if term < self._core.term or not self._core.is_leader:
            return False
        self._core.heard_from(member)
        return True

    def forget_match(self, member: str) -> None:
        """Count nothing this member ever acknowledged: it may have lost it."""
        if self._core.is_leader and self._membership.is_follower(member):
            self._core.set_match_index(member, 0)

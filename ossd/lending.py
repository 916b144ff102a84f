"""Bytes that bodies hold for as long as their clients take: lent, and called back.

A client decides how long its upload fills a stripe and how long its download waits to be
taken. Whatever lies in memory meanwhile is a `Loan` of the process's one `Lending`, on top
of a small free part. When little is left, the loans that stand longest are recalled: an
upload stores what it has as a short stripe, a download drops what it can read again. So no
client, however slow, keeps others waiting (SAFETY rule 25, ADR 11). Who waits is served in
the order of coming, with a handicap for those whose bytes stay long: a quick body does not
stand behind all the slow ones.

Every wait here ends, because every loan comes back without its client's help:
* a *closed* part waits for the cluster only, and is given by its holder;
* an *open* part is recalled once it is old enough, and its holder then closes or gives it;
* who waits to grow holds an open part, and can be recalled like anybody, or none at all.
"""

import asyncio
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from osscore.errors import Overloaded
from ossd.holding import Holding

FREE_BYTES = 64 * 1024
"""What each loan may hold beside the total: small bodies never wait."""
RECALL_AFTER_S = 2.0
"""Younger loans are left alone: a stripe that fills at full speed is not cut."""
HANDICAP = 4.0
"""Who keeps a byte for a second on average waits as if it had come so many later."""
HANDICAP_S_MAX = 8.0
"""So many: nobody is overtaken by those who come even later."""
_HEADROOM_SHARE = 0.25
"""Recalls begin before all is lent, so that a new body seldom waits for one."""


class Loan:
    """What one body holds. `grow` before bytes are held; `close` what no longer depends on
    the client; `give` what is not held any more."""

    def __init__(self, lending: "Lending") -> None:
        self._lending = lending
        self.open_bytes = 0
        """Held for as long as the client takes."""
        self.closed_bytes = 0
        """Held until the cluster is done with them."""
        self.is_recalled = False
        """Others need it: close or give all that is open. False again once that is done."""
        self.on_recall: Callable[[], None] = lambda: None
        """Called, once, when `is_recalled` becomes true."""
        self.since_s = 0.0
        self.holding = Holding()
        """Of open bytes: what is closed does not wait for the client. Nor does a body that
        waits for its turn."""
        self.place_s: float | None = None
        """Of a body that was recalled as it waited: it does not lose its place by that."""

    @property
    def is_recallable(self) -> bool:
        """Whether more than the free part is open."""
        return self.open_bytes > self._lending.free_bytes

    async def grow(self, size_bytes: int) -> bool:
        """Hold that many more, waiting a bounded time for one's turn. Raises Overloaded.

        False, and nothing taken, if what is open was or is meanwhile recalled.
        """
        return await self._lending.grow(self, size_bytes)

    def try_grow(self, size_bytes: int, *, share_max: float) -> bool:
        """Hold that many more from surplus: False, and nothing taken, if anyone waits or more
        than `share_max` of the whole would then be lent."""
        return self._lending.try_grow(self, size_bytes, share_max=share_max)

    def give(self, size_bytes: int) -> None:
        """So many open bytes are not held any more."""
        self._lending.change(self, opened=-size_bytes)

    def refresh(self) -> None:
        """Its client is quick: it counts as young again."""
        self._lending.refresh(self)

    def close(self, size_bytes: int) -> "ClosedPart":
        """So many open bytes will be given back however slow the client is."""
        self._lending.change(self, opened=-size_bytes, closed=size_bytes)
        return ClosedPart(self, size_bytes)

    def give_closed(self, size_bytes: int) -> None:
        """See ClosedPart.give."""
        self._lending.change(self, closed=-size_bytes)


class ClosedPart:
    """Bytes of a loan that its holder gives back by itself."""

    def __init__(self, loan: Loan, size_bytes: int) -> None:
        self._loan = loan
        self._size_bytes = size_bytes

    def give(self) -> None:
        """They are not held any more. Again: no change."""
        size_bytes, self._size_bytes = min(self._size_bytes, self._loan.closed_bytes), 0
        self._loan.give_closed(size_bytes)


@dataclass(slots=True, eq=False)
class _Turn:
    """One who waits to grow. `place_s`: the time of its coming and its handicap."""

    loan: Loan
    size_bytes: int
    place_s: float
    granted: asyncio.Future[bool]
    is_taken: bool = False


class Lending:
    """All loans of a process. Used from one event loop."""

    def __init__(
        self,
        total_bytes: int,
        *,
        wait_s: float,
        free_bytes: int = FREE_BYTES,
        recall_after_s: float = RECALL_AFTER_S,
    ) -> None:
        self._total_bytes = total_bytes
        self._wait_s = wait_s
        self.free_bytes = free_bytes
        self._recall_after_s = recall_after_s
        self._open: dict[Loan, None] = {}  # loans with something open to recall, oldest first
        self._waiting: list[_Turn] = []  # by place
        self._timer: asyncio.TimerHandle | None = None
        self._returning_bytes = 0
        self.used_bytes = 0
        """What is lent, beside the free part of each loan. Never over the total."""
        self.recalled_count = 0

    @property
    def waiting_count(self) -> int:
        """How many bodies wait to grow."""
        return len(self._waiting)

    @contextmanager
    def lend(self) -> Iterator[Loan]:
        """A loan for one body; what it holds at the end is given back."""
        loan = Loan(self)
        try:
            yield loan
        finally:
            self.change(loan, opened=-loan.open_bytes, closed=-loan.closed_bytes)

    def has_surplus(self, share_max: float) -> bool:
        """Whether nobody waits and at most that share is lent."""
        return not self._waiting and self.used_bytes <= self._total_bytes * share_max

    # --- of a loan -----------------------------------------------------------------------

    async def grow(self, loan: Loan, size_bytes: int) -> bool:
        """See Loan.grow."""
        if loan.is_recalled:
            return False
        if self._fits(loan, size_bytes) and not (self._waiting and self._cost(loan, size_bytes)):
            self.change(loan, opened=size_bytes)
            return True
        turn = _Turn(
            loan, size_bytes, self._place_s(loan), asyncio.get_running_loop().create_future()
        )
        insort(self._waiting, turn, key=lambda turn: turn.place_s)
        self._balance()
        try:
            async with asyncio.timeout(self._wait_s):
                is_granted = await turn.granted
            loan.place_s = None if is_granted else turn.place_s
            return is_granted
        except TimeoutError as error:
            self._leave(turn)
            raise Overloaded("This process holds as many bodies as it may; try again.") from error
        except asyncio.CancelledError:
            self._leave(turn)
            raise

    def try_grow(self, loan: Loan, size_bytes: int, *, share_max: float) -> bool:
        """See Loan.try_grow."""
        after_bytes = self.used_bytes + self._cost(loan, size_bytes)
        if loan.is_recalled or self._waiting or after_bytes > self._total_bytes * share_max:
            return False
        self.change(loan, opened=size_bytes)
        return True

    def change(self, loan: Loan, *, opened: int = 0, closed: int = 0) -> None:
        """Count what a loan holds more or less now, and let others have what that leaves."""
        if opened or closed:
            self._count(loan, opened, closed)
            self._balance()

    def refresh(self, loan: Loan) -> None:
        """See Loan.refresh."""
        if loan in self._open and not loan.is_recalled:
            del self._open[loan]
            loan.since_s = _now_s()
            self._open[loan] = None

    # --- counting ------------------------------------------------------------------------

    def _charge(self, held_bytes: int) -> int:
        """What that counts; more than there is in total counts as all of it."""
        return min(max(0, held_bytes - self.free_bytes), self._total_bytes)

    def _cost(self, loan: Loan, size_bytes: int) -> int:
        held_bytes = loan.open_bytes + loan.closed_bytes
        return self._charge(held_bytes + size_bytes) - self._charge(held_bytes)

    def _fits(self, loan: Loan, size_bytes: int) -> bool:
        return self.used_bytes + self._cost(loan, size_bytes) <= self._total_bytes

    def _recallable_bytes(self, loan: Loan) -> int:
        return self._charge(loan.open_bytes)

    def _returning(self, loan: Loan) -> int:
        """How much of it comes back by itself."""
        all_bytes = self._charge(loan.open_bytes + loan.closed_bytes)
        return all_bytes if loan.is_recalled else all_bytes - self._recallable_bytes(loan)

    def _count(self, loan: Loan, opened: int, closed: int) -> None:
        self.used_bytes -= self._charge(loan.open_bytes + loan.closed_bytes)
        self._returning_bytes -= self._returning(loan)
        now_s = _now_s()
        loan.holding.pass_time(loan.open_bytes, now_s)
        loan.holding.take(max(0, opened))
        loan.open_bytes += opened
        loan.closed_bytes += closed
        assert loan.open_bytes >= 0 and loan.closed_bytes >= 0, "given back more than was lent"
        if not loan.open_bytes:
            loan.is_recalled = False
        if not self._recallable_bytes(loan):
            self._open.pop(loan, None)
        elif loan not in self._open:
            loan.since_s = now_s
            self._open[loan] = None
        self.used_bytes += self._charge(loan.open_bytes + loan.closed_bytes)
        self._returning_bytes += self._returning(loan)

    # --- turns and recalls -----------------------------------------------------------------

    def _place_s(self, loan: Loan) -> float:
        now_s = _now_s()
        loan.holding.pass_time(loan.open_bytes, now_s)
        if loan.place_s is not None:
            return loan.place_s
        return now_s + min(HANDICAP * loan.holding.mean_s, HANDICAP_S_MAX)

    def _leave(self, turn: _Turn) -> None:
        # A turn may be granted in the very moment in which its body gives up.
        if turn.is_taken:
            self._count(turn.loan, -min(turn.size_bytes, turn.loan.open_bytes), 0)
        elif turn in self._waiting:
            self._waiting.remove(turn)
        self._balance()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0].loan, self._waiting[0].size_bytes):
            turn = self._waiting.pop(0)
            turn.loan.holding.skip_time(_now_s())
            self._count(turn.loan, turn.size_bytes, 0)
            turn.is_taken = True
            if not turn.granted.done():  # else cancelled just now: `_leave` gives it back
                turn.granted.set_result(True)

    def _balance(self) -> None:
        """Serve who waits, and recall what is missing for them and for some headroom."""
        self._serve()
        missing_bytes = self._missing_bytes()
        if missing_bytes <= 0 or not self._open:
            return
        victims = self._victims(missing_bytes)
        for loan in victims:
            self._mark(loan)
        if self._missing_bytes() > 0:
            self._look_again()
        for loan in victims:
            loan.on_recall()

    def _missing_bytes(self) -> int:
        waiting_bytes = sum(self._cost(turn.loan, turn.size_bytes) for turn in self._waiting)
        wanted_bytes = waiting_bytes + int(self._total_bytes * _HEADROOM_SHARE)
        return wanted_bytes - (self._total_bytes - self.used_bytes) - self._returning_bytes

    def _victims(self, missing_bytes: int) -> list[Loan]:
        """The oldest loans, none below the average as long as others do: short stripes are
        the price of room, and many very short ones too high a price."""
        old_s = _now_s() - self._recall_after_s
        lent = [loan for loan in self._open if not loan.is_recalled]
        sizes = {loan: self._recallable_bytes(loan) for loan in lent}
        average = sum(sizes.values()) / max(1, len(sizes))
        old = [loan for loan in lent if loan.since_s <= old_s]
        large = [loan for loan in old if sizes[loan] >= average]
        small = [loan for loan in old if sizes[loan] < average] if self._waiting else []
        found: list[Loan] = []
        for loan in (*large, *small):
            if missing_bytes <= 0:
                break
            found.append(loan)
            missing_bytes -= sizes[loan]
        return found

    def _mark(self, loan: Loan) -> None:
        self._returning_bytes -= self._returning(loan)
        loan.is_recalled = True
        self._returning_bytes += self._returning(loan)
        self.recalled_count += 1
        for turn in [turn for turn in self._waiting if turn.loan is loan]:
            self._waiting.remove(turn)
            loan.holding.skip_time(_now_s())
            if not turn.granted.done():
                turn.granted.set_result(False)

    def _look_again(self) -> None:
        """When the next loan is old enough to be recalled."""
        loop = asyncio.get_running_loop()
        dues_s = (loan.since_s + self._recall_after_s for loan in self._open)
        due_s = next((due_s for due_s in dues_s if due_s > loop.time()), None)
        if self._timer is None and due_s is not None:
            self._timer = loop.call_at(due_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._balance()


def _now_s() -> float:
    loop = asyncio.get_running_loop()
    return loop.time()


def endless_loan() -> Loan:
    """For what is not counted: it grows as it likes and is never recalled."""
    return Loan(Lending(1 << 62, wait_s=0, free_bytes=1 << 62))

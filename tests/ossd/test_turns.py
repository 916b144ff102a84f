"""A queue with overtaking: nobody is forgotten, and who is behind has its part."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ossd.turns import BEHIND_SHARE, Turns


@dataclass(eq=False)
class Waiting:
    is_behind: bool
    size_bytes: int


some = st.builds(Waiting, st.booleans(), st.integers(1, 100))


def queue(*turns: Waiting) -> Turns[Waiting]:
    made = Turns[Waiting]()
    for turn in turns:
        made.join(turn)
    return made


def test_who_is_behind_waits_for_all_others_but_for_its_part():
    behind = [Waiting(True, 10) for _ in range(3)]
    ahead = [Waiting(False, 30) for _ in range(3)]
    turns = queue(*behind, *ahead)
    served = [turns.serve() for _ in range(6)]
    assert served == [ahead[0], behind[0], ahead[1], behind[1], ahead[2], behind[2]]


def test_what_is_owed_ends_with_the_last_one_behind():
    gone, ahead = Waiting(True, 1), [Waiting(False, 100) for _ in range(3)]
    turns = queue(gone, *ahead)
    turns.serve()
    turns.leave(gone)
    turns.leave(gone)
    late = Waiting(True, 10)
    turns.join(late)
    assert [turns.serve() for _ in range(3)] == [ahead[1], late, ahead[2]]


@given(st.lists(some))
def test_each_is_served_once_and_in_the_order_of_its_kind(waiting: list[Waiting]):
    turns = queue(*waiting)
    assert len(turns) == len(waiting) and set(turns) == set(waiting)
    served = [turns.serve() for _ in waiting]
    assert not len(turns)
    for is_behind in (False, True):
        kind = [each for each in waiting if each.is_behind is is_behind]
        assert [each for each in served if each.is_behind is is_behind] == kind


@given(st.lists(some, min_size=1))
def test_who_is_behind_waits_for_no_more_than_its_part_allows(waiting: list[Waiting]):
    """However many quick ones come, what overtook it is at most three times what those behind
    had and it wants itself, and one turn more."""
    turns, quick = queue(*waiting), Waiting(False, 100)
    left = [each for each in waiting if each.is_behind]
    overtook_bytes, had_bytes = 0, 0
    while left:
        turns.join(quick := Waiting(False, 100))
        served = turns.serve()
        if served.is_behind:
            left.remove(served)
            had_bytes += served.size_bytes
            continue
        overtook_bytes += served.size_bytes
        allowed_bytes = (had_bytes + left[0].size_bytes) * (1 - BEHIND_SHARE) / BEHIND_SHARE
        assert overtook_bytes <= allowed_bytes + quick.size_bytes

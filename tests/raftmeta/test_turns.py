"""A long list keeps nobody from the event loop."""

import asyncio

from raftmeta.stewards.turns import in_turns


def test_others_have_their_turn_while_a_list_is_gone_through() -> None:
    seen: list[int | str] = []

    async def other() -> None:
        for _ in range(3):
            seen.append("other")
            await asyncio.sleep(0)

    async def story() -> None:
        beside = asyncio.create_task(other())
        async for number in in_turns(range(7), at_once=2):
            seen.append(number)
        await beside

    asyncio.run(story())
    assert seen == [0, 1, "other", 2, 3, "other", 4, 5, "other", 6]

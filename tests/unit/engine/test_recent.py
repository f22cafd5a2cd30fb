"""Answers that are remembered for some time: asked for once, bounded in age and number."""

from __future__ import annotations

import asyncio

import pytest

from objstore.engine.recent import Recent
from tests.sim.coordinator import ManualClock


class Source:
    """Answers with how often it was asked for that name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False
        self.gate: asyncio.Event | None = None

    async def find(self, name: str) -> int:
        self.asked.append(name)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise OSError(name)
        return self.asked.count(name)


def test_an_answer_is_kept_for_its_time_which_begins_when_it_is_asked_for() -> None:
    async def main() -> None:
        source, clock = Source(), ManualClock()
        recent = Recent(source.find, clock, 1.5, 10)
        source.gate = asyncio.Event()
        first = asyncio.ensure_future(recent.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance(1.0)  # while it is looked up
        source.gate.set()
        assert await first == 1
        clock.advance(0.4)
        assert await recent.get("a") == 1
        clock.advance(0.2)
        assert await recent.get("a") == 2
        recent.clear()
        assert await recent.get("a") == 3

    asyncio.run(main())


def test_many_that_ask_at_once_ask_once_and_none_ends_it_for_the_others() -> None:
    async def main() -> None:
        source = Source()
        source.gate = asyncio.Event()
        recent = Recent(source.find, ManualClock(), 1.5, 10)
        asking = [asyncio.ensure_future(recent.get("a")) for _ in range(5)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        source.gate.set()
        assert await asyncio.gather(*asking[1:]) == [1, 1, 1, 1]
        assert source.asked == ["a"]

    asyncio.run(main())


def test_the_oldest_answers_go_first_and_failures_are_not_kept() -> None:
    async def main() -> None:
        source = Source()
        recent = Recent(source.find, ManualClock(), 1.5, 2)
        for name in ("a", "b", "c", "b", "c", "a"):
            await recent.get(name)
        assert source.asked == ["a", "b", "c", "a"]
        source.fails = True
        with pytest.raises(OSError, match="d"):
            await recent.get("d")
        source.fails = False
        assert await recent.get("d") == 2

    asyncio.run(main())

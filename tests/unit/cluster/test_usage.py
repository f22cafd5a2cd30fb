"""What a gateway knows of the usage of buckets: it is not late, and while nobody tells the last answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from objstore.cluster.port import INVENTORY, USAGE, USAGE_HEAD_KEY, Entry
from objstore.cluster.store import CoordinatorStore
from objstore.cluster.usage import FRESH_S, NOT_MEASURED, PATIENCE_S, Measured, UsageReader, read_reports, read_usage
from objstore.model.errors import Unreachable
from objstore.model.ids import BucketId
from objstore.model.inventory import Written, WrittenReports, encode_written
from objstore.model.usage import BucketUse, Use
from objstore.repair.usage import UsageBoard
from tests.sim.cluster import SimClock
from tests.sim.coordinator import LocalCoordinator
from tests.sim.loop import SimLoop, run

BUCKET = BucketId(bytes(15) + b"\x07")


class Away(LocalCoordinator):
    """A coordinator that can be away, or silent, and counts what it is asked."""

    away = silent = False
    asked = 0

    async def get(self, key: str) -> Entry | None:
        self.asked += 1
        if self.silent:
            await asyncio.sleep(1000)
        if self.away:
            raise Unreachable("no connection")
        return await super().get(key)


def with_reader(main: Callable[[Away, UsageReader], Awaitable[None]]) -> None:
    async def begin() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        clock = SimClock(loop)
        coordinator = Away(CoordinatorStore(), clock)
        reader = UsageReader(coordinator, clock)
        await main(coordinator, reader)
        await reader.close()

    run(begin, 1)


async def told(coordinator: Away, size: int, as_of_ms: int) -> None:
    found = {BUCKET: BucketUse(BUCKET.hex(), "b", Use(1, 1, 0, size))}
    await UsageBoard(coordinator).publish(found, as_of_ms)


def test_it_is_read_again_when_it_is_old() -> None:
    async def main(coordinator: Away, reader: UsageReader) -> None:
        await told(coordinator, 5, 10)
        first = Measured(Use(1, 1, 0, 5), 10)
        assert await reader.measured(BUCKET) == first
        asked = coordinator.asked
        await told(coordinator, 6, 20)
        assert await reader.measured(BUCKET) == first and coordinator.asked == asked
        await asyncio.sleep(FRESH_S)
        assert await reader.measured(BUCKET) == Measured(Use(1, 1, 0, 6), 20)
        other = BucketId(BUCKET[:8] + b"x" * 7 + b"\x07")
        assert await reader.measured(other) == Measured(Use(), 20), "one that is not listed holds nothing"

    with_reader(main)


def test_while_the_coordinator_is_away_the_last_answer_counts() -> None:
    async def main(coordinator: Away, reader: UsageReader) -> None:
        await told(coordinator, 5, 10)
        known = await reader.measured(BUCKET)
        for coordinator.away, coordinator.silent in ((True, False), (False, True)):
            waited = 0.0
            for _ in range(5):
                await asyncio.sleep(FRESH_S)
                began = asyncio.get_running_loop().time()
                assert await reader.measured(BUCKET) == known
                waited += asyncio.get_running_loop().time() - began
            assert waited <= PATIENCE_S + 0.1, "once, not again and again"
        coordinator.away = coordinator.silent = False
        await told(coordinator, 6, 20)
        await asyncio.sleep(1000)
        await reader.measured(BUCKET)
        await asyncio.sleep(FRESH_S)
        assert await reader.measured(BUCKET) == Measured(Use(1, 1, 0, 6), 20)

    with_reader(main)


def test_who_asks_first_does_not_wait_long_for_one_that_is_silent() -> None:
    async def main(coordinator: Away, reader: UsageReader) -> None:
        coordinator.silent = True
        began = asyncio.get_running_loop().time()
        assert await reader.measured(BUCKET) == NOT_MEASURED
        assert asyncio.get_running_loop().time() - began <= PATIENCE_S + 0.1

    with_reader(main)


def test_what_another_version_wrote_is_as_good_as_nothing() -> None:
    async def main(coordinator: Away, reader: UsageReader) -> None:
        assert await read_usage(coordinator) is None
        await told(coordinator, 5, 10)
        await coordinator.put(f"{USAGE}07", b'{"format": 2}')
        assert await read_usage(coordinator) is None
        assert await reader.measured(BUCKET) == NOT_MEASURED
        await told(coordinator, 5, 10)
        await coordinator.put(USAGE_HEAD_KEY, b"{")
        assert await read_usage(coordinator) is None
        await coordinator.put(INVENTORY + "aa", b"{")
        await coordinator.put(INVENTORY + "bb", encode_written(WrittenReports({"daily": Written(1, 1)})))
        assert await read_reports(coordinator) == {"bb": {"daily": Written(1, 1)}}

    with_reader(main)

"""Groups of tasks that leave no trace in a task that outlives them."""

from __future__ import annotations

import asyncio

import pytest

from objstore.engine.calls import in_parallel
from objstore.engine.tasks import apart


async def fail(_: object = None) -> None:
    await asyncio.sleep(0)
    raise ValueError("as it should")


async def group() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())


async def check_time_outs_work() -> None:
    this = asyncio.current_task()
    assert this is not None and this.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(10)


def test_a_group_that_failed_leaves_nothing_in_the_task_that_waited_for_it() -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            await apart(group())
        await check_time_outs_work()

    asyncio.run(main())


def test_items_in_parallel_of_which_one_fails_leave_nothing_either() -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            await in_parallel(2, range(4), fail)
        await check_time_outs_work()

    asyncio.run(main())


def test_what_comes_of_it_comes_back() -> None:
    async def three() -> int:
        return 3

    assert asyncio.run(apart(three())) == 3


def test_whoever_is_cancelled_waits_until_it_has_ended() -> None:
    async def main() -> None:
        ended = False

        async def work() -> None:
            nonlocal ended
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0.001)
                ended = True

        waiting = asyncio.create_task(apart(work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended

    asyncio.run(main())

"""What the simulation relies on in the simulated loop."""

import asyncio

import pytest

from tests.sim.loop import Deadlock, run


async def _race() -> list[int]:
    order: list[int] = []

    async def one(i: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            order.append(i)
        await asyncio.get_running_loop().run_in_executor(None, order.append, i + 100)

    await asyncio.gather(*(one(i) for i in range(5)))
    return order


def test_same_seed_same_run() -> None:
    (first, loop_1), (second, loop_2) = run(_race, 7), run(_race, 7)
    assert first == second and loop_1.trace == loop_2.trace


def test_other_seed_other_order() -> None:
    assert len({tuple(run(_race, seed)[0]) for seed in range(20)}) > 10


def test_time_is_virtual() -> None:
    async def sleep_long() -> float:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(100_000)
        return asyncio.get_running_loop().time() - before

    assert run(sleep_long, 1)[0] == pytest.approx(100_000)


def test_deadlock_is_told() -> None:
    async def wait_for_nothing() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(wait_for_nothing, 1)

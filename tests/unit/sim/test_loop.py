"""What the simulation relies on in the simulated loop."""

import asyncio

import pytest

from tests.sim.loop import Deadlock, Endless, SimLoop, in_process, run


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


async def _tick(ticks: list[float]) -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            await asyncio.sleep(1.0)
            ticks.append(loop.time() - 1000.0)
    finally:
        await loop.run_in_executor(None, ticks.append, -1.0)


def _start_ticking(ticks: list[float]) -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    in_process("p", loop.create_task, _tick(ticks))
    return loop


def test_a_paused_process_does_nothing_and_goes_on_where_it_stood() -> None:
    async def main() -> list[float]:
        ticks: list[float] = []
        loop = _start_ticking(ticks)
        await asyncio.sleep(2.5)
        loop.paused.add("p")
        await asyncio.sleep(7.0)
        loop.paused.discard("p")
        await asyncio.sleep(1.2)
        return list(ticks)

    assert run(main, 1)[0] == pytest.approx([1.0, 2.0, 9.5, 10.5])


def test_a_killed_process_leaves_nothing_behind_and_its_name_can_live_again() -> None:
    async def main() -> list[float]:
        ticks: list[float] = []
        loop = _start_ticking(ticks)
        await asyncio.sleep(1.5)
        loop.kill("p")
        _start_ticking(ticks)
        await asyncio.sleep(2.5)
        return list(ticks)

    assert run(main, 1)[0] == pytest.approx([1.0, 2.5, 3.5])


def test_a_run_without_end_is_told() -> None:
    async def for_ever() -> None:
        while True:  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(10)

    with pytest.raises(Endless):
        run(for_ever, 1, within_s=1000)

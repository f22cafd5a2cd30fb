"""What is done on the event loop, and what in a thread."""

from __future__ import annotations

import asyncio
import threading

from objstore.node.pace import Pace


class Watch:
    """A clock that work sets forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> int:
        self.now += seconds
        return threading.get_ident()


def test_quick_work_stays_on_the_loop_and_slow_work_has_a_thread_until_it_is_quick_again() -> None:
    watch = Watch()
    pace = Pace(0.003, watch)
    here = threading.get_ident()

    async def places(seconds: float, count: int) -> list[bool]:
        return [await pace.run(watch.work, seconds) == here for _ in range(count)]

    async def main() -> None:
        assert all(await places(0.002, 50))
        assert await places(0.5, 1) == [True]  # nobody could know
        assert not any(await places(0.5, 5))
        later = await places(0.001, 100)
        assert not later[0] and later[-1] and later == sorted(later)

    asyncio.run(main())


def test_without_a_limit_everything_has_a_thread() -> None:
    watch = Watch()

    async def main() -> None:
        pace = Pace(0.0, watch)
        assert await pace.run(watch.work, 0.0) != threading.get_ident()

    asyncio.run(main())


def test_work_that_fails_fails_alike_in_both_places() -> None:
    def broken() -> None:
        raise OSError("a broken disk")

    async def main() -> list[BaseException | None]:
        return await asyncio.gather(*(Pace(s).run(broken) for s in (0.0, 1.0)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(main())] == ["a broken disk"] * 2

"""An asyncio event loop with virtual time, a seeded order of ready callbacks, and inline executor jobs.

Nothing waits: when no callback is ready the clock jumps to the next timer. The same seed gives the same run.
Uses private parts of asyncio's BaseEventLoop (`_ready`, `_selector`), so test_loop.py holds what is relied on.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, yet the main coroutine has not ended."""


class _Selector:
    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        self._loop.advance(timeout)
        return []

    def close(self) -> None:
        return None


class SimLoop(asyncio.BaseEventLoop):
    """`steps` counts loop turns, `trace` is a running hash of (time, ready count): equal for equal runs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.steps = 0
        self.trace = 0
        self._now = 1000.0
        self._selector = _Selector(self)
        self.tasks_of: dict[str, dict[asyncio.Task[Any], None]] = {}
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def advance(self, timeout: float | None) -> None:
        self.steps += 1
        if timeout is None:
            raise Deadlock("every coroutine waits for something that nobody will do")
        if timeout > 0:
            self._now += timeout
        ready = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            shuffled = list(ready)
            self.random.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        self.trace = hash((self.trace, self._now, len(ready)))

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **kwargs: Any
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=loop, **kwargs)
        mine = self.tasks_of.setdefault(PROCESS.get(), {})
        mine[task] = None
        task.add_done_callback(lambda done: mine.pop(done, None))
        return task

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Runs at once; the result arrives a little later, so that other callbacks get between."""
        future: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - handed to the waiter as it is
            self.call_later(self.random.uniform(0, 0.002), _fail, future, error)
        else:
            self.call_later(self.random.uniform(0, 0.002), _finish, future, result)
        return future

    def _process_events(self, event_list: object) -> None:
        return None

    def _write_to_self(self) -> None:
        return None

    def kill(self, process: str) -> None:
        """Cancel every task of a process; what they do while they unwind must not matter."""
        for task in list(self.tasks_of.get(process, ())):
            task.cancel()


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def run(main: Callable[[], Coroutine[Any, Any, T]], seed: int) -> tuple[T, SimLoop]:
    """Run `main()` to its end under a fresh loop."""
    loop = SimLoop(seed)
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(_settle())
        return result, loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _settle() -> None:
    await asyncio.sleep(0.01)


def in_process(name: str, function: Callable[..., T], *args: Any) -> T:
    """Call `function` so that every task it starts belongs to process `name`."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, name)
    return context.run(function, *args)

"""An asyncio event loop with virtual time, a seeded order of ready callbacks, and inline executor jobs.

Nothing waits: when no callback is ready the clock jumps to the next timer. The same seed gives the same run.
Callbacks belong to processes (`in_process`). One that is paused runs nothing at all until it goes on; of one that was
killed, what still unwinds can neither start tasks nor reach disks or network.
Uses private parts of asyncio's BaseEventLoop (`_ready`, `_scheduled`, `_selector`) and Handle (`_context`), so
tests/unit/sim/test_loop.py holds what is relied on.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import random
import struct
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, TypeVar

import xxhash

T = TypeVar("T")

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")
LIFE: contextvars.ContextVar[int] = contextvars.ContextVar("life", default=0)  # of the process; killed, it has another
_TURN = struct.Struct("<dI")


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, yet the main coroutine has not ended."""


class Endless(AssertionError):
    """The run goes on and on."""


class _Selector:
    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        self._loop.advance(timeout)
        return []

    def close(self) -> None:
        return None


class SimLoop(asyncio.BaseEventLoop):
    """`steps` counts loop turns; `trace` is a hash of all turns and of what `note` was told: equal for equal runs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.steps = 0
        self.ends_at = inf  # virtual time after which something must be wrong
        self.paused: set[str] = set()  # processes under SIGSTOP
        self.lives: dict[str, int] = {}  # process -> how often it was killed
        self.slow_jobs: dict[str, float] = {}  # process with a slow disk -> the longest that an executor job takes
        self._history = xxhash.xxh3_64()
        self._held: list[asyncio.Handle] = []  # callbacks of paused processes
        self._now = 1000.0
        self._clock_resolution = 1e-9
        self._selector = _Selector(self)
        self.tasks_of: dict[str, dict[asyncio.Task[Any], None]] = {}
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    @property
    def trace(self) -> str:
        return self._history.hexdigest()

    def note(self, *parts: bytes) -> None:
        """Something that must be equal in equal runs."""
        for part in parts:
            self._history.update(part)

    def advance(self, timeout: float | None) -> None:
        self.steps += 1
        if timeout is None:
            raise Deadlock("every coroutine waits for something that nobody will do")
        if timeout > 0 and all(_process_of(handle) in self.paused for handle in self._held):
            self._now += timeout
        if self._now > self.ends_at:
            raise Endless(f"not done after {self._now - 1000.0:.0f} s")
        ready = self._ready  # type: ignore[attr-defined]
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0].when() < self._now + self._clock_resolution:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        if self.paused or self._held:
            self._hold(ready)
        if len(ready) > 1:
            shuffled = list(ready)
            self.random.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        self._history.update(_TURN.pack(self._now, len(ready)))

    def _hold(self, ready: Any) -> None:
        """Keep back what belongs to paused processes; what they missed comes first when they go on."""
        handles = [*self._held, *ready]
        self._held = [handle for handle in handles if _process_of(handle) in self.paused]
        ready.clear()
        ready.extend(handle for handle in handles if _process_of(handle) not in self.paused)

    def is_dead(self) -> bool:
        """Does the running code belong to a process that was killed?"""
        process = PROCESS.get()
        return LIFE.get() != self.lives.get(process, 0)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **kwargs: Any
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=loop, **kwargs)
        mine = self.tasks_of.setdefault(PROCESS.get(), {})
        mine[task] = None
        task.add_done_callback(lambda done: mine.pop(done, None))
        if self.is_dead():
            task.cancel()
        return task

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Runs at once, on a slow disk some time later; the result comes after that, so that others get between."""
        if self.is_dead():
            raise asyncio.CancelledError
        future: asyncio.Future[T] = self.create_future()
        if PROCESS.get() in self.slow_jobs:
            self.call_later(self.job_s(), self._job, future, func, args)
        else:
            self._job(future, func, args)
        return future

    def _job(self, future: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
        if self.is_dead():
            return  # a killed process takes with it what its threads had not begun
        try:
            result = func(*args)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - handed to the waiter as it is
            self.call_later(self.job_s(), _fail, future, error)
        else:
            self.call_later(self.job_s(), _finish, future, result)

    def job_s(self) -> float:
        """How long the next executor job takes."""
        return self.random.uniform(0, self.slow_jobs.get(PROCESS.get(), 0.002))

    def _process_events(self, event_list: object) -> None:
        return None

    def _write_to_self(self) -> None:
        return None

    def kill(self, process: str) -> None:
        """SIGKILL: its tasks unwind, and nothing they do meanwhile leaves the process (`is_dead`)."""
        self.lives[process] = self.lives.get(process, 0) + 1
        for task in list(self.tasks_of.get(process, ())):
            task.cancel()


def _process_of(handle: asyncio.Handle) -> str | None:
    context: contextvars.Context = handle._context  # type: ignore[attr-defined]
    return context.get(PROCESS)


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def run(main: Callable[[], Coroutine[Any, Any, T]], seed: int, *, within_s: float = inf) -> tuple[T, SimLoop]:
    """Run `main()` to its end under a fresh loop.

    Without the cycle collector: it would end abandoned generators at moments that depend on what ran before."""
    loop = SimLoop(seed)
    loop.ends_at = loop.time() + within_s
    asyncio.set_event_loop(loop)
    collects = gc.isenabled()
    gc.disable()
    try:
        result = loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(_settle())
        return result, loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        if collects:
            gc.enable()


async def _settle() -> None:
    await asyncio.sleep(0.01)


def in_process(name: str, function: Callable[..., T], *args: Any) -> T:
    """Call `function` so that every task it starts belongs to process `name`, as it lives now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    context = contextvars.copy_context()
    context.run(PROCESS.set, name)
    context.run(LIFE.set, loop.lives.get(name, 0))
    return context.run(function, *args)

"""Runs many seeds in parallel processes and says which are bad."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from types import FrameType

from tests.sim.plan import draw
from tests.sim.runner import run_plan

HANG_S = 120  # seconds of real time after which a run is taken to hang
SLOWEST = 3  # seeds that are named at the end
SEEDS_PER_PROCESS = 50


@dataclass(frozen=True)
class Result:
    seed: int
    wrong: tuple[str, ...]
    trace: str
    cpu_s: float
    operations: int
    failed: int
    messages: int


def run_one(seed: int) -> Result:
    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the run hangs: {HANG_S} s of real time are over")

    begun = time.process_time()
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANG_S)
    logging.disable(logging.CRITICAL)  # what nodes log about injected faults
    try:
        report = run_plan(draw(seed))
    except Exception:  # noqa: BLE001 - whatever it is, this seed is bad
        return Result(seed, (traceback.format_exc(),), "", time.process_time() - begun, 0, 0, 0)
    finally:
        logging.disable(logging.NOTSET)
        signal.alarm(0)
    cpu_s = time.process_time() - begun
    return Result(seed, tuple(report.wrong), report.trace, cpu_s, report.operations, report.failed, report.messages)


def trace_elsewhere(seed: int) -> str:
    """The trace of a seed in a process of its own, with other hashes."""
    code = "import sys; from tests.sim.search import run_one; print(run_one(int(sys.argv[1])).trace)"
    environment = {**os.environ, "PYTHONHASHSEED": str(seed * 7919 % 4_000_000_000)}
    done = subprocess.run([sys.executable, "-c", code, str(seed)], env=environment, capture_output=True, text=True)
    return done.stdout.strip()


def run_twice(seed: int) -> Result:
    first = run_one(seed)
    if not first.wrong and (second := trace_elsewhere(seed)) != first.trace:
        wrong = f"two runs differ: {first.trace} and {second or 'nothing'}"
        return Result(seed, (wrong,), first.trace, first.cpu_s, first.operations, first.failed, first.messages)
    return first


def search(seeds: Iterable[int], *, jobs: int, minutes: float, twice: bool) -> int:
    """Returns how many seeds were bad."""
    begun, bad = time.monotonic(), 0
    cpu: list[tuple[float, int]] = []
    operations = messages = failed = 0
    for result in _results(seeds, jobs, run_twice if twice else run_one):
        cpu.append((result.cpu_s, result.seed))
        operations, failed = operations + result.operations, failed + result.failed
        messages += result.messages
        if result.wrong:
            bad += 1
            print(f"seed {result.seed} is bad:", *result.wrong, sep="\n  ")
            print(f"  again: python -m tests.sim --seed {result.seed}", flush=True)
        if len(cpu) % 100 == 0:
            print(f"{len(cpu)} seeds, {bad} bad, {time.monotonic() - begun:.0f} s", flush=True)
        if minutes and time.monotonic() - begun > minutes * 60:
            break
    mean = sum(seconds for seconds, _ in cpu) / max(1, len(cpu))
    slow = ", ".join(f"{seed} ({seconds:.1f} s)" for seconds, seed in sorted(cpu)[-SLOWEST:])
    print(
        f"{len(cpu)} seeds, {bad} bad; {operations} operations ({failed} unavailable), {messages} messages; "
        f"{mean:.2f} s of CPU a seed, slowest {slow}; {time.monotonic() - begun:.0f} s in all"
    )
    return bad


def _results(seeds: Iterable[int], jobs: int, run: Callable[[int], Result]) -> Iterator[Result]:
    """In the order of the seeds."""
    if jobs == 1:
        yield from map(run, seeds)
        return
    waiting: deque[Future[Result]] = deque()
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=SEEDS_PER_PROCESS) as pool:
        try:
            for seed in seeds:
                waiting.append(pool.submit(run, seed))
                if len(waiting) >= 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

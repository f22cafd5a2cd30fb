"""The processes of the load, and what those of the server have used: CPU seconds and memory, from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from objstore.bench.model import Done, Job, Tick, decode_line
from objstore.model.errors import ObjstoreError

BEGIN_AFTER_S = 0.3  # so that all processes have read their jobs by then
ENDING_S = 90.0  # for what is under way when the time is over
LINE_BYTES_MAX = 4 << 20
SAMPLE_S = 0.5

Told = Callable[[int, Tick], None]


class Broken(ObjstoreError):
    """A process of the load ended."""


class Workers:
    """`async with Workers(count) as workers`: processes that do one job after the other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[asyncio.subprocess.Process] = []
        self._at_work: set[int] = set()  # numbers of those that have a job
        self._ending = False

    async def __aenter__(self) -> Workers:
        for _ in range(self._count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "objstore.bench.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX,
                start_new_session=True,  # Ctrl-C is for the one that ends them
            )  # fmt: skip
            self._processes.append(process)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*(process.communicate() for process in self._processes))  # which closes the pipes too
        self._processes.clear()

    async def restart(self) -> None:
        """After a job that was broken off: nobody works on."""
        await self.__aexit__()
        await self.__aenter__()

    def end_early(self) -> None:
        """Those that have a job end it now, and say what they have measured."""
        self._ending = True
        for number in self._at_work:
            self._end(number)

    def _end(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._processes[number].send_signal(signal.SIGTERM)

    async def do(self, jobs: Sequence[Job], told: Told) -> list[Done]:
        """One job per process, begun together. Broken if one of them ends."""
        begin_s = time.monotonic() + BEGIN_AFTER_S
        begun = [msgspec.structs.replace(job, begin_s=begin_s) for job in jobs]
        self._ending = False
        try:
            return list(await asyncio.gather(*(self._one(job, told) for job in begun)))
        except BaseException:
            await asyncio.shield(self.restart())
            raise

    async def _one(self, job: Job, told: Told) -> Done:
        process = self._processes[job.process]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        await process.stdin.drain()
        deadline = job.phase.warmup_s + job.phase.seconds + ENDING_S
        try:
            async with asyncio.timeout(deadline):
                while raw := await process.stdout.readline():
                    line = decode_line(raw)
                    if isinstance(line, Done):
                        return line
                    if job.process not in self._at_work:  # before its first tick it may not have read the job
                        self._at_work.add(job.process)
                        if self._ending:
                            self._end(job.process)
                    told(job.process, line)
        except TimeoutError:
            raise Broken(f"a process of the load has not ended its phase after {deadline:.0f} s") from None
        finally:
            self._at_work.discard(job.process)
        raise Broken("a process of the load has ended; what it said stands above")


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_s: float
    rss_bytes: int


def usage(pids: Iterable[int]) -> Usage:
    """Of those processes that still run, together."""
    found = [one for pid in pids if (one := _of(pid))]
    return Usage(sum(one[1] for one in found), sum(one[2] for one in found))


def with_children(pids: Iterable[int]) -> list[int]:
    """And the processes that those have started, such as the workers of a gateway."""
    found = list(pids)
    for pid in found:  # which grows
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def _of(pid: int) -> tuple[int, float, int] | None:
    """When it was started (in the kernel's ticks), CPU seconds, resident bytes; None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return int(fields[19]), cpu_s, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


class Meter:
    """CPU that processes use while some of them end and others are started: the last that was seen of each counts.

    `look` now and then, at least at the beginning and at the end."""

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self._pids = pids
        self._first: dict[tuple[int, int], float] = {}  # by pid and start
        self._last: dict[tuple[int, int], float] = {}
        self._looked = False
        self.rss_bytes = 0

    def look(self) -> None:
        self.rss_bytes = 0
        for pid in self._pids():
            if (found := _of(pid)) is None:
                continue
            started, cpu_s, rss = found
            self._first.setdefault((pid, started), 0.0 if self._looked else cpu_s)
            self._last[pid, started] = cpu_s
            self.rss_bytes += rss
        self._looked = True

    @property
    def cpu_s(self) -> float:
        """Since the first look."""
        return sum(self._last.values()) - sum(self._first.values())

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_S)


def matching(pattern: str) -> list[int]:
    """Processes of this machine whose command line has a match; neither we nor those that began us."""
    found, wanted = [], re.compile(pattern)
    ours = set(_ancestors(os.getpid()))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in ours:
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if wanted.search(command) and "objstore.bench.worker" not in command:
                found.append(int(entry.name))
    return found


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return

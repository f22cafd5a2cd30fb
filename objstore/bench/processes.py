"""The processes of the load, and what those of the server have used: CPU seconds and memory, from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from objstore.bench.model import Done, Job, Tick, decode_line
from objstore.model.errors import ObjstoreError

BEGIN_AFTER_S = 0.3  # so that all processes have read their jobs by then
ENDING_S = 90.0  # for what is under way when the time is over
LINE_BYTES_MAX = 4 << 20

Told = Callable[[int, Tick], None]


class Broken(ObjstoreError):
    """A process of the load ended."""


class Workers:
    """`async with Workers(count) as workers`: processes that do one job after the other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[asyncio.subprocess.Process] = []

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

    async def do(self, jobs: Sequence[Job], told: Told) -> list[Done]:
        """One job per process, begun together. Broken if one of them ends."""
        begin_s = time.monotonic() + BEGIN_AFTER_S
        begun = [msgspec.structs.replace(job, begin_s=begin_s) for job in jobs]
        return list(await asyncio.gather(*(self._one(job, told) for job in begun)))

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
                    told(job.process, line)
        except TimeoutError:
            raise Broken(f"a process of the load has not ended its phase after {deadline:.0f} s") from None
        raise Broken("a process of the load has ended; what it said stands above")


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_s: float
    rss_bytes: int


def usage(pids: Iterable[int]) -> Usage:
    """Of those processes that still run, together."""
    ticks, pages = 0, 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
        pages += int(fields[21])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


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


def _ancestors(pid: int) -> Iterable[int]:
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return

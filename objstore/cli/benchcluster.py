"""What `objstore bench` does to a cluster of this machine: ends nodes, brings them back, and asks how repair goes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from objstore.admin.collect import observe
from objstore.admin.snapshot import build
from objstore.admin.status import Status
from objstore.bench.processes import with_children
from objstore.bench.rebuild import Look, Rebuilt
from objstore.local import commands
from objstore.local.folder import Folder
from objstore.model.errors import InvalidRequest, ObjstoreError

_CHAOS_TIMEOUT_S = 45.0
_WHOLE_S = 180.0
_NOTHING_S = 10.0  # that a dead node is given up for, and nothing is found to be repaired
_TICK_S = 0.25
_WORKING = ("running", "throttled")

T = TypeVar("T")


class OwnCluster:
    """A cluster of `objstore up`, by its data folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def pids(self) -> list[int]:
        return with_children(member.pid for member in self.folder.running().members if member.pid)

    def nodes(self) -> list[str]:
        return [member.name for member in self.folder.running().members if member.role == "node"]

    def check(self, name: str) -> None:
        """InvalidRequest if it has no such process."""
        names = [member.name for member in self.folder.running().members]
        if name not in names:
            raise InvalidRequest(f"{self.folder.path} has no process {name!r}; there are {' '.join(names)}")

    async def act(self, action: str, name: str) -> str:
        """One of those of `objstore chaos`. What was done."""
        command = commands.Command(action, name)
        text = await _waiting(partial(commands.send, self.folder, command, timeout_s=_CHAOS_TIMEOUT_S))
        return text.partition(" (")[0]  # without signals and pids

    async def status(self) -> Status:
        state = self.folder.running()
        return await _waiting(lambda: build(observe(state.coordinator, state.cluster_secret, local=True)))

    async def restore(self, names: list[str]) -> None:
        """Starts them, and waits until all is as before, so that the next phase is not about this one."""
        for name in names:
            try:
                await self.act("start", name)
            except InvalidRequest as error:  # it was never killed: the phase was ended before
                print(f"{name}: {error}", file=sys.stderr)
        deadline = time.monotonic() + _WHOLE_S
        while (status := await self.status()).verdict != "HEALTHY":
            if time.monotonic() > deadline:
                print(f"not healthy after {_WHOLE_S:.0f} s: {status.summary}", file=sys.stderr)
                return
            await asyncio.sleep(_TICK_S)

    async def repair_of(self, name: str) -> Look:
        """To be called before the node is ended: how its repair goes."""
        before = (await self.status()).receipts
        idle_since = 0.0

        async def look() -> Rebuilt:
            nonlocal idle_since
            try:
                status = await self.status()
            except ObjstoreError as error:
                return Rebuilt("waiting", 0, 0, text=str(error))
            receipt = next(
                (one for one in reversed(status.receipts) if one.kind == "repair" and one not in before), None
            )
            node, progress = status.node(name), status.repair
            if receipt is not None and status.is_whole:
                seconds = (receipt.finished_ms - receipt.started_ms) / 1000
                return Rebuilt("done", receipt.objects, receipt.bytes, seconds, "full redundancy")
            if progress is not None and progress.state in _WORKING and progress.kind == "repair":
                idle_since = 0.0
                return Rebuilt("working", progress.done, progress.bytes_done, text=status.summary)
            if node is not None and node.state == "out" and status.is_whole:
                idle_since = idle_since or time.monotonic()
                if time.monotonic() - idle_since > _NOTHING_S:
                    return Rebuilt("done", 0, 0, text="it held nothing that had to be made again")
            return Rebuilt("waiting", 0, 0, text=status.summary)

        return look


async def _waiting(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, call)

"""Injects the faults of a Plan, as far as the promises allow, and undoes them.

The budget: any number of machines may be away where the plan says so (nothing may be lost by that), but of what
destroys data (an empty disk, bit rot, a drained node) never more than m machines suffer until everything is whole
again. Such a fault therefore waits for a moment at which every object is whole and nobody is away; if none comes it
is skipped.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

from objstore.model.errors import Fatal
from objstore.node import damage, index
from objstore.node.register_rows import INLINE
from objstore.node.service import INDEX
from objstore.node.volumes import Extent, is_beyond, volume_path
from objstore.ports import DamagedKV
from tests.sim import layouts
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.plan import Fault, Plan

WAIT_S = 20.0  # for a moment at which data may be destroyed
REST_S = 3.0  # ... and so long nobody must have been away
HEAL_S = 120.0


class Faults:
    def __init__(self, cluster: SimCluster, plan: Plan) -> None:
        self.cluster = cluster
        self.plan = plan
        self.log: list[str] = []  # what was done
        self._away: dict[str, None] = {}  # machines
        self._stopped: dict[str, None] = {}  # other processes
        self._back_at = float("-inf")  # when the last machine came back
        self._weak: dict[str, None] = {}  # machines that lost data, until all is whole
        self._spoilt: dict[str, None] = {}  # machines with rot, for good: it is found only when it is read
        self._rot: dict[bytes, dict[int, None]] = {}  # segment -> shards with rot

    async def run(self) -> None:
        """All of the plan; everything that can be undone is undone on return."""
        async with asyncio.TaskGroup() as group:
            for fault in self.plan.faults:
                group.create_task(self._at_its_time(fault))

    def explains(self, machine: SimNode, fragment: bytes) -> bool:
        """May this machine hold a damaged fragment?"""
        return machine.name in self._spoilt

    def _note(self, text: str) -> None:
        self.log.append(f"{self.cluster.loop.time() - 1000.0:7.2f} s  {text}")

    async def _at_its_time(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        inject: dict[str, Callable[[Fault], Coroutine[Any, Any, bool]]] = {
            "kill": self._kill,
            "power": self._kill,
            "dark": self._kill,
            "pause": self._pause,
            "stop": self._stop,
            "skew": self._skew,
            "block": self._block,
            "slow": self._slow,
            "full": self._full,
            "eio": self._eio,
            "rot": self._rot_one,
            "rows": self._rot_rows,
            "cut": self._cut,
            "wipe": self._wipe,
            "index": self._wipe,
            "blackout": self._blackout,
            "add": self._add,
            "drain": self._drain,
        }
        if not await inject[fault.kind](fault):
            self._note(f"skipped: {fault}")

    def _machine(self, name: str) -> SimNode:
        return next(machine for machine in self.cluster.machines if machine.name == name)

    # --- away and back ------------------------------------------------------------------------------------

    def _may_leave(self, name: str) -> bool:
        machine = self._machine(name)
        return machine.up and machine.member and name not in self._away and len(self._away) < self.plan.away_max

    async def _come_back(self, machine: SimNode) -> None:
        """Up again; what its disk still refuses is a fault that passes."""
        while not machine.up:
            try:
                await self.cluster.start_node(machine)
            except (Fatal, OSError) as error:
                self._note(f"{machine.name} cannot start: {error}")
                await asyncio.sleep(1.0)
        self._away.pop(machine.name, None)
        self._back_at = self.cluster.loop.time()
        self._note(f"{machine.name} is back")

    async def _kill(self, fault: Fault) -> bool:
        if not self._may_leave(fault.who):
            return False
        machine = self._machine(fault.who)
        self._away[machine.name] = None
        self._note(f"{fault.kind} {machine.name}")
        self.cluster.kill(machine, power=fault.kind != "kill", dark=fault.kind == "dark")
        await asyncio.sleep(fault.seconds)
        await self._come_back(machine)
        return True

    async def _pause(self, fault: Fault) -> bool:
        is_machine = fault.who.startswith("n")
        if fault.who in self._stopped or (is_machine and not self._may_leave(fault.who)):
            return False
        self._note(f"pause {fault.who}")
        (self._away if is_machine else self._stopped)[fault.who] = None
        self.cluster.freeze(fault.who)
        await asyncio.sleep(fault.seconds)
        self.cluster.thaw(fault.who)
        self._note(f"{fault.who} goes on")
        self._stopped.pop(fault.who, None)
        if is_machine and self._machine(fault.who).up:
            self._away.pop(fault.who, None)
            self._back_at = self.cluster.loop.time()
        return True

    async def _stop(self, fault: Fault) -> bool:
        if fault.who in self._stopped:
            return False
        self._stopped[fault.who] = None
        self._note(f"stop {fault.who}")
        self.cluster.stop(fault.who)
        await asyncio.sleep(fault.seconds)
        if fault.who == "coordinator":
            self.cluster.coordinator_kv.crash(self.cluster.random)
        await self.cluster.start(fault.who)
        self._stopped.pop(fault.who, None)
        self._note(f"{fault.who} is back")
        return True

    async def _blackout(self, fault: Fault) -> bool:
        machines = [machine for machine in self.cluster.machines if machine.up and machine.name not in self._away]
        self._note("power failure everywhere")
        for machine in machines:
            self._away[machine.name] = None
            self.cluster.kill(machine, power=True, dark=self.cluster.random.random() < 0.5)
        await asyncio.sleep(fault.seconds)
        self.cluster.random.shuffle(machines)
        for machine in machines:
            await asyncio.sleep(self.cluster.random.uniform(0, 0.5))
            await self._come_back(machine)
        return True

    # --- clocks, links, disks -----------------------------------------------------------------------------

    async def _skew(self, fault: Fault) -> bool:
        clock = self.cluster.clock(fault.who)
        self._note(f"the clock of {fault.who} errs by {fault.amount / 1000:.0f} s")
        clock.skew_ms = int(fault.amount)
        await asyncio.sleep(fault.seconds)
        clock.skew_ms = 0
        return True

    async def _block(self, fault: Fault) -> bool:
        source, _, target = fault.who.partition(">")
        if source == target or (source, target) in self.cluster.network.blocked:
            return False
        self._note(f"nothing from {source} reaches {target}")
        self.cluster.network.blocked.add((source, target))
        await asyncio.sleep(fault.seconds)
        self.cluster.network.blocked.discard((source, target))
        self._back_at = self.cluster.loop.time()
        return True

    async def _slow(self, fault: Fault) -> bool:
        self._note(f"the disk of {fault.who} is slow")
        self.cluster.loop.slow_jobs[fault.who] = self.cluster.random.choice((0.05, 0.5))
        await asyncio.sleep(fault.seconds)
        self.cluster.loop.slow_jobs.pop(fault.who, None)
        return True

    async def _full(self, fault: Fault) -> bool:
        machine = self._machine(fault.who)
        disk, kv = machine.disk, machine.kv
        if disk.capacity < 1 << 39:
            return False
        self._note(f"the disk of {fault.who} is full")
        before = disk.capacity
        disk.capacity = disk.used + self.cluster.random.choice((0, 0, 20_000))
        if self.cluster.random.random() < 0.3:
            kv.capacity = kv.used + 200
        await asyncio.sleep(fault.seconds)
        disk.capacity, kv.capacity = before, None
        self._back_at = self.cluster.loop.time()
        return True

    async def _eio(self, fault: Fault) -> bool:
        """A sync fails: the node must end itself; what was not synced is gone."""
        machine = self._machine(fault.who)
        if not self._may_leave(fault.who):
            return False
        self._away[machine.name] = None
        self._note(f"the disk of {fault.who} fails")
        machine.disk.fail_sync = machine.kv.fail_commit = OSError(errno.EIO, "injected")
        await asyncio.sleep(fault.seconds)
        was_up = machine.up
        self.cluster.kill(machine, power=True)
        self._note(f"{fault.who} {'had not noticed' if was_up else 'had ended'}")
        await self._come_back(machine)
        return True

    # --- what destroys data -------------------------------------------------------------------------------

    async def _may_destroy(self, name: str) -> bool:
        """Wait for a moment at which this machine may lose data. Nothing happens between that and the return."""
        began, left = self.cluster.loop.time(), ""
        while self.cluster.loop.time() < began + WAIT_S:
            if name not in self._spoilt and len({*self._weak, *self._spoilt, name}) > self.plan.code.m:
                return False
            machine = self._machine(name)
            left = await self.cluster.unsettled(began, everyone=True)
            rested = self.cluster.loop.time() - self._back_at >= REST_S
            if not left and rested and not self._away and not self._weak and machine.up and machine.member:
                return len({*self._spoilt, name}) <= self.plan.code.m
            await asyncio.sleep(0.3)
        self._note(f"no moment to destroy data on {name}: {left[:150] or 'somebody was away just now'}")
        return False

    async def _rot_one(self, fault: Fault) -> bool:
        return await self._may_destroy(fault.who) and self._spoil(fault, cut=False)

    async def _cut(self, fault: Fault) -> bool:
        return await self._may_destroy(fault.who) and self._spoil(fault, cut=True)

    def _spoil(self, fault: Fault, *, cut: bool) -> bool:
        """Flip a byte of one fragment, or cut a volume from there on."""
        machine = self._machine(fault.who)
        held = [(key, index.unpack(row)) for key, row in machine.kv.scan(index.FRAG, b"")]
        held = [(key, one) for key, one in held if not self._is_cut(machine, one.extent)]
        if not held:
            return False
        _, (volume, offset, length), *_ = held[int(fault.amount * len(held))][1]
        hit = [(key, one) for key, one in held if one.extent.volume == volume and one.extent.offset >= offset]
        if not cut:
            hit = [(key, one) for key, one in hit if one.extent.offset == offset]
        for key, _ in hit:
            if len({*self._rot.get(key[:20], {}), key[20]}) > self.plan.code.m:
                return False
        for key, _ in hit:
            self._rot.setdefault(key[:20], {})[key[20]] = None
        self._spoilt[machine.name] = None
        if cut:
            machine.disk.truncate(volume_path(volume), offset + length // 2)
        else:
            machine.disk.flip(volume_path(volume), offset + self.cluster.random.randrange(length))
        self._note(f"{fault.kind} on {machine.name}: {len(hit)} fragments")
        return True

    def _is_cut(self, machine: SimNode, extent: Extent) -> bool:
        """Beyond the end of its file, and the node has not noticed yet."""
        return is_beyond(extent, machine.disk.open(volume_path(extent.volume)).size())

    async def _wipe(self, fault: Fault) -> bool:
        if not await self._may_destroy(fault.who):
            return False
        machine = self._machine(fault.who)
        self._weak[machine.name] = self._away[machine.name] = None
        self._note(f"{machine.name} loses its {'disk' if fault.kind == 'wipe' else 'index'}")
        self.cluster.kill(machine)
        if fault.kind == "wipe":
            self.cluster.wipe(machine)
        else:
            self.cluster.lose_index(machine)
        await asyncio.sleep(fault.seconds)
        await self._come_back(machine)
        return await self._whole_again(machine)

    async def _rot_rows(self, fault: Fault) -> bool:
        """Bytes of the index rot. The node notices when it reads them, when it is started again, or by its scrub."""
        if not await self._may_destroy(fault.who):
            return False
        machine, chance = self._machine(fault.who), self.cluster.random
        self._weak[machine.name] = self._away[machine.name] = None
        assert machine.service is not None
        former = machine.service.id
        for _ in range(int(fault.amount)):
            machine.kv.flip(*chance.choice(machine.kv.places()), 1 << chance.randrange(8))
        self._note(f"{int(fault.amount)} bytes rot in the index of {machine.name}")
        await asyncio.sleep(fault.seconds)
        self._note(f"{machine.name} {'had not noticed' if machine.up else 'had ended'}")
        if machine.up:
            self.cluster.kill(machine)
        await self._come_back(machine)
        try:
            machine.rows.check(also=(INLINE,))
        except DamagedKV as found:
            self._note(f"the scrub of {machine.name} reads what no start does, and ends it: {found}")
            damage.mark(machine.disk, INDEX, str(found))
            self.cluster.kill(machine)
            await self._come_back(machine)
        if machine.service.id != former:
            self._note(f"{machine.name} begins a new life")
        return await self._whole_again(machine)

    async def _whole_again(self, machine: SimNode) -> bool:
        began = self.cluster.loop.time()
        while self.cluster.loop.time() < began + HEAL_S:
            if not await self.cluster.unsettled(began, everyone=False):
                self._weak.pop(machine.name, None)
                return True
            await asyncio.sleep(0.5)
        self._note(f"not whole again after {machine.name}")
        return True

    # --- layouts ------------------------------------------------------------------------------------------

    async def _add(self, fault: Fault) -> bool:
        machine = self.cluster.add_machine()
        machine.member = False
        await self._come_back(machine)
        machine.member = True  # it may be so from any moment
        await layouts.add(self.cluster, machine)
        machine.member = await layouts.is_member(self.cluster, machine)
        self._note(f"{machine.name} {'has a share' if machine.member else 'stays a spare'}")
        return True

    async def _drain(self, fault: Fault) -> bool:
        """Taken out of the layout, emptied, removed, and switched off for good; as far as each is allowed in time."""
        machine = self._machine(fault.who)
        if not machine.up or not machine.member:
            return False
        self._note(f"{machine.name} is to be drained")
        await layouts.drain(self.cluster, machine)
        if await layouts.has_share(self.cluster, machine):
            return False
        await layouts.remove(self.cluster, machine)
        machine.member = await layouts.is_member(self.cluster, machine)
        if machine.member:
            self._note(f"{machine.name} is drained, but not empty yet")
            return True
        self._away.pop(machine.name, None)
        if machine.up:
            self.cluster.kill(machine)
        self._note(f"{machine.name} is removed, and switched off")
        return True

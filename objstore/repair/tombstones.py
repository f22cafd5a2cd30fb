"""Forgetting deleted keys: tombstones that every owner of their partition holds alike become absent registers.

Two passes over *all* owners, under the tag of a partition that is not moving: first each raises the floor of the
partition, durably; only when all have done so is any register removed. `objstore.register.forgetting` decides what
may go, the acceptors check it again, `objstore/register/DESIGN.md` (INV-11) tells why it is safe. A pass that breaks
off leaves nothing wrong: what is held by some and forgotten by others is forgotten by all in a later round.

How old a tombstone must be is a matter of pace alone: a floor refuses the ballots of writers that are slower.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from objstore.engine.calls import Calls, ask, in_parallel
from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.errors import ObjstoreError, StaleEpoch
from objstore.model.ids import NodeId
from objstore.placement.topology import MetaView, Topology
from objstore.ports import Clock
from objstore.register.forgetting import Forgetting, forgettable
from objstore.repair.inventory import Inventory
from objstore.repair.reading import look_at
from objstore.wire.messages import Ok, RegForget

log = logging.getLogger(__name__)

PARTITIONS_MAX = 8  # looked at in one round
REGISTERS_MAX = 4 * limits.SCAN_RECORDS_MAX  # forgotten in one round, per partition
AGAIN_S = 60.0  # until a partition is looked at again, unless there is more to do at once


class Tombstones:
    def __init__(self, calls: Calls, clock: Clock, inventory: Inventory, age_s: float) -> None:
        self._calls = calls
        self._clock = clock
        self._inventory = inventory
        self._age_s = age_s
        self._due: dict[int, float] = {}  # partition -> when it is worth another look
        self.forgotten = 0  # registers, ever

    async def collect(self, topology: Topology, may_act: Callable[[], bool]) -> None:
        now = self._clock.monotonic()
        looked = 0
        for partition, tombstones in list(self._inventory.tombstones.items()):
            if not tombstones or now < self._due.get(partition, now):
                continue
            if looked == PARTITIONS_MAX or not may_act():
                return
            wait_s = self._age_s - self._oldest_age_s(tombstones.values())
            if wait_s <= 0:
                looked += 1
                wait_s = min(AGAIN_S, self._age_s)
                try:
                    wait_s *= not await self._collect(topology, partition, dict(tombstones))
                except ObjstoreError as error:
                    log.info("deleted keys of partition %d are kept for now: %s", partition, error)
            self._due[partition] = now + wait_s

    def _oldest_age_s(self, ballots: Collection[bytes]) -> float:
        return (self._clock.wall_ms() - (Ballot.unpack(min(ballots)).time >> 16)) / 1000

    async def _collect(self, topology: Topology, partition: int, tombstones: dict[bytes, bytes]) -> bool:
        """True if there is more to do at once."""
        view = topology.meta_view(partition)
        if len(view.sets) > 1:
            return False
        owners = view.sets[0]
        found = await self._plan(view, partition, tombstones)
        if found is None:
            return False
        await self._tell(owners, RegForget(partition, view.tag, found.floor))
        for first in range(0, len(found.registers), limits.SCAN_RECORDS_MAX):
            page = found.registers[first : first + limits.SCAN_RECORDS_MAX]
            keys, ballots = [key for key, _ in page], b"".join(ballot for _, ballot in page)
            await self._tell(owners, RegForget(partition, view.tag, found.floor, keys, ballots))
        self.forgotten += len(found.registers)
        return len(found.registers) == REGISTERS_MAX

    async def _plan(self, view: MetaView, partition: int, tombstones: dict[bytes, bytes]) -> Forgetting | None:
        looks = []
        for node in view.sets[0]:
            look = await look_at(self._calls, node, partition)
            if look.fence > view.tag:
                raise StaleEpoch(f"it is fenced at {look.fence} on node {node}")
            looks.append(look)
        horizon_ms = max(0, self._clock.wall_ms() - int(self._age_s * 1000))
        return forgettable(looks, tombstones, before=Ballot(horizon_ms << 16, 0).pack(), limit=REGISTERS_MAX)

    async def _tell(self, owners: Sequence[NodeId], request: RegForget) -> None:
        """Returns when every owner has done it; raises when one has not, after all were asked."""
        errors: list[ObjstoreError] = []

        async def one(node: NodeId) -> None:
            try:
                await ask(self._calls, node, request, Ok, timeout_s=limits.RPC_TIMEOUT_S)
            except ObjstoreError as error:
                errors.append(error)

        await in_parallel(len(owners), owners, one)
        if errors:
            raise errors[0]

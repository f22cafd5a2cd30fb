"""The repairer: of those that run, the elected one works; when it dies the next goes on from the cluster itself.

Nothing is kept here that cannot be found again: the map tells how far a layout change is, the nodes what they hold,
the registers what should be there, the last survey what was already done. A term is a group of loops that ends as a
whole when leadership is lost (objstore/repair/term.py); whatever it was doing is safe to be done again, or by two
at once.
"""

from __future__ import annotations

import asyncio
import json
import logging

from objstore.cluster.bootstrap import first_map, reason_to_wait
from objstore.cluster.directory import Directory
from objstore.cluster.election import Election
from objstore.cluster.port import CLUSTER_KEY, MAP_KEY, REPAIR_LEADER_KEY, Coordinator
from objstore.cluster.topology import read_leases
from objstore.engine.peers import Peers
from objstore.engine.registers import Registers
from objstore.engine.tasks import apart
from objstore.model.cluster import ClusterMap, decode_map, encode_map
from objstore.model.errors import ObjstoreError
from objstore.notify.sender import Sender
from objstore.ports import Clock, Random, Transport
from objstore.repair.remembering import put_back
from objstore.repair.settings import RepairSettings
from objstore.repair.term import Office, Term

log = logging.getLogger(__name__)

LEADERSHIP_CHECK_S = 0.1


class _Deposed(Exception):
    """This process no longer leads."""


class Repairer:
    """start() and close(); everything else is done by itself. `name`: what people call this process."""

    def __init__(
        self,
        coordinator: Coordinator,
        directory: Directory,
        transport: Transport,
        clock: Clock,
        random: Random,
        settings: RepairSettings,
        name: str,
        sender: Sender | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._directory = directory
        self._clock = clock
        self._random = random
        self._settings = settings
        self._name = name
        self._sender = sender
        self._peers = Peers(directory, transport, clock)
        self._registers = Registers(self._peers, clock, random)
        self._election = Election(coordinator, clock, REPAIR_LEADER_KEY, name, settings.election_ttl_s)
        self._task: asyncio.Task[None] | None = None

    @property
    def is_leader(self) -> bool:
        return self._election.is_leader

    def start(self) -> None:
        self._election.start()
        self._task = asyncio.create_task(self._run(), name=f"repairer {self._name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._election.close()
        self._peers.close()

    async def _run(self) -> None:
        while True:
            if self.is_leader:
                try:
                    await apart(self._lead())
                except* _Deposed:
                    log.info("repair is led by another process now")
                except* ObjstoreError as group:
                    log.warning("repair starts over: %s", "; ".join(map(str, group.exceptions)))
                except* Exception:
                    log.exception("repair failed and starts over")
            await asyncio.sleep(self._settings.interval_s)

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_leadership())
            term = await self._begin_term()
            for loop in term.loops:
                group.create_task(loop())

    async def _watch_leadership(self) -> None:
        while True:
            if not self.is_leader:
                raise _Deposed
            await asyncio.sleep(LEADERSHIP_CHECK_S)

    async def _begin_term(self) -> Term:
        while True:
            cluster_map = await self._make_map()
            if cluster_map is not None:
                break
            await asyncio.sleep(self._settings.interval_s)
        await self._directory.refresh()
        office = Office(
            name=self._name,
            is_leader=lambda: self.is_leader,
            coordinator=self._coordinator,
            directory=self._directory,
            peers=self._peers,
            registers=self._registers,
            clock=self._clock,
            random=self._random,
            settings=self._settings,
            sender=self._sender,
        )
        return await Term.begin(office, cluster_map)

    async def _make_map(self) -> ClusterMap | None:
        """The map; the first one is made here, once enough nodes have registered."""
        entry = await self._coordinator.get(MAP_KEY)
        if await put_back(self._coordinator, self._directory, self._peers, entry):
            return None  # read it
        if entry is not None:
            return decode_map(entry.value)
        leases = await read_leases(self._coordinator)
        settings = self._settings
        why = reason_to_wait(leases.values(), settings.code, settings.initial_nodes)
        identity = await self._coordinator.get(CLUSTER_KEY)
        if why or identity is None:
            log.info("no cluster map yet: %s", why or "the coordinator does not say which cluster this is")
            return None
        made = first_map(
            leases.values(),
            cluster_id=json.loads(identity.value)["id"],
            code=settings.code,
            partition_bits=settings.partition_bits,
            codec=settings.codec,
            initial_nodes=settings.initial_nodes,
        )
        if made is None or not self.is_leader:
            return None
        if await self._coordinator.put(MAP_KEY, encode_map(made), expected=0) is None:
            return None  # another was faster: read it
        log.info("made the first cluster map: %d nodes, EC %s", len(made.nodes), made.code)
        return made

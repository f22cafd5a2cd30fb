"""A simulated cluster with repairers, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from objstore.cluster.bootstrap import first_map
from objstore.cluster.directory import Directory
from objstore.cluster.port import MAP_KEY, SURVEY_KEY
from objstore.cluster.topology import read_leases
from objstore.engine.engine import Engine
from objstore.model.cluster import ClusterMap, ErasureCode, decode_map, encode_map
from objstore.model.survey import Survey, decode_survey
from objstore.repair.service import Repairer
from objstore.repair.settings import RepairSettings
from tests.sim.cluster import PARTITION_BITS, SimClock, SimCluster, SimNode, SimRandom
from tests.sim.network import SimTransport

SETTINGS = RepairSettings(
    code=ErasureCode(4, 2),
    partition_bits=PARTITION_BITS,
    codec="zfec",
    down_after_s=1.0,
    out_after_s=4.0,
    steady_s=1.0,
    election_ttl_s=2.0,
    garbage_delay_s=5.0,
)


@dataclass
class MappedCluster(SimCluster):
    """With a map, and without repairers: tests start theirs when they want to, with their settings."""

    repairer_count: int = 0

    async def _start_gateway(self, index: int) -> None:
        if index == 0:
            await self._put_map()
        await super()._start_gateway(index)

    async def _put_map(self) -> None:
        coordinator = self.coordinator("")
        while True:
            made = first_map(
                (await read_leases(coordinator)).values(),
                cluster_id=self.cluster_id,
                code=self.code,
                partition_bits=PARTITION_BITS,
                codec=self.codec,
                initial_nodes=self.nodes,
            )
            if made is not None:
                await coordinator.put(MAP_KEY, encode_map(made), expected=0)
                return
            await asyncio.sleep(0.1)


@dataclass
class Repaired:
    """A cluster whose repairers run as processes of their own."""

    sim: SimCluster
    settings: RepairSettings = SETTINGS
    repairers: dict[str, Repairer] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        await self.sim._as(name, self._start(name))

    async def _start(self, name: str) -> None:
        clock = SimClock(self.sim.loop)
        coordinator = self.sim.coordinator(name)
        directory = Directory(coordinator, clock)
        directory.start()
        transport = SimTransport(self.sim.network, name)
        seed = SimRandom(self.sim.seed + len(self.repairers) + 77)
        repairer = Repairer(coordinator, directory, transport, clock, seed, self.settings, name)
        repairer.start()
        self.repairers[name] = repairer

    def kill(self, name: str) -> None:
        del self.repairers[name]
        self.sim.loop.kill(name)

    async def survey(self) -> Survey | None:
        entry = await self.sim.coordinator("").get(SURVEY_KEY)
        return decode_survey(entry.value) if entry is not None else None

    async def map(self) -> ClusterMap:
        entry = await self.sim.coordinator("").get(MAP_KEY)
        assert entry is not None
        return decode_map(entry.value)

    async def until(self, holds: Callable[[Survey], bool], *, within_s: float = 120.0) -> Survey:
        """Virtual seconds. Only a survey made from now on counts."""
        loop = asyncio.get_running_loop()
        begin_ms = SimClock(self.sim.loop).wall_ms()
        deadline = loop.time() + within_s
        survey = None
        while loop.time() < deadline:
            survey = await self.survey()
            if survey is not None and survey.as_of_ms > begin_ms and holds(survey):
                return survey
            await asyncio.sleep(0.2)
        raise AssertionError(f"not within {within_s} s; the last survey: {survey}")


def machine_of(sim: SimCluster, node_id: str) -> SimNode:
    return next(m for m in sim.machines if m.service is not None and m.service.id == node_id)


async def body(data: bytes, step: int = 100_000) -> AsyncIterator[bytes]:
    for i in range(0, len(data), step):
        yield data[i : i + step]


async def get(engine: Engine, bucket: str, key: str) -> bytes:
    info = await engine.head_object(bucket, key)
    return b"".join([bytes(b) async for b in engine.read(info, 0, info.size)])


def is_full(survey: Survey) -> bool:
    counts = survey.objects
    return counts.total > 0 and counts.full == counts.total

"""A whole cluster in one process under the simulated loop: coordinator, nodes, gateways' engines, repairers.

The code that runs is the product's; clock, randomness, disks, key-value stores and network are simulated.
Each process has its own name in the loop, so that it can be killed with all its tasks, lose power, or pause.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

from objstore.cluster.directory import Directory
from objstore.cluster.embedded import CoordinatorService, RemoteCoordinator, open_coordinator
from objstore.cluster.lease import Heartbeat
from objstore.engine.engine import Engine
from objstore.engine.peers import Peers
from objstore.model.cluster import ErasureCode, NodeLease, decode_map, encode_lease
from objstore.model.survey import Survey, decode_survey
from objstore.node.service import TABLES, NodeService, open_node
from objstore.repair.service import Repairer
from objstore.repair.settings import RepairSettings
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV
from tests.sim.loop import SimLoop, in_process
from tests.sim.network import NetworkFaults, SimNetwork, SimTransport

TTL_S = 2.0
PARTITION_BITS = 4


class SimClock:
    """Virtual time; `skew_ms` is this process's error against true wall time, changed at will."""

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self.skew_ms = skew_ms

    def monotonic(self) -> float:
        return self._loop.time()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self._loop.time() * 1000) + self.skew_ms


class SimRandom:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


@dataclass
class SimNode:
    """A node's machine: what survives the process."""

    name: str
    disk: SimDisk
    kv: SimKV
    clock: SimClock
    boots: int = 0
    service: NodeService | None = None
    heartbeat: Heartbeat | None = None

    @property
    def up(self) -> bool:
        return self.service is not None


@dataclass
class SimCluster:
    """Use as an async context manager inside tests.sim.loop.run."""

    seed: int
    nodes: int = 8
    code: ErasureCode = field(default_factory=lambda: ErasureCode(4, 2))
    gateways: int = 2
    repairer_count: int = 2
    faults: NetworkFaults = field(default_factory=NetworkFaults)
    codec: str = "zfec"

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.random = random.Random(self.seed ^ 0x5EED)
        self.network = SimNetwork(loop)
        self.machines = [SimNode(f"n{i + 1}", SimDisk(), SimKV(TABLES), SimClock(loop)) for i in range(self.nodes)]
        self.coordinator_kv = SimKV(("co",))
        self.engines: list[Engine] = []
        self.repairers: list[Repairer] = []
        self._directories: list[Directory] = []
        self._coordinator: CoordinatorService | None = None

    async def __aenter__(self) -> SimCluster:
        await self._as("coordinator", self._start_coordinator())
        identity = await self.coordinator("").get("cluster")
        assert identity is not None
        self.cluster_id = json.loads(identity.value)["id"]
        for machine in self.machines:
            await self.start_node(machine)
        for i in range(self.repairer_count):
            await self._as(f"repairer{i + 1}", self._start_repairer(i))
        for i in range(self.gateways):
            await self._as(f"gateway{i + 1}", self._start_gateway(i))
        self.network.faults = self.faults
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.loop.tasks_of):
            if name:
                self.loop.kill(name)
        await asyncio.sleep(1)

    async def _as(self, process: str, coroutine: object) -> None:
        await in_process(process, self.loop.create_task, coroutine)

    async def _start_coordinator(self) -> None:
        self._coordinator = await open_coordinator(
            self.coordinator_kv, SimClock(self.loop), SimRandom(self.seed), name="sim"
        )
        self.network.listen("coordinator", "coordinator", self._coordinator)

    def coordinator(self, process: str) -> RemoteCoordinator:
        return RemoteCoordinator(SimTransport(self.network, process), "coordinator")

    async def start_node(self, machine: SimNode) -> None:
        machine.boots += 1
        await self._as(machine.name, self._start_node(machine))

    async def _start_node(self, machine: SimNode) -> None:
        seed = random.Random(f"{self.seed} {machine.name} {machine.boots}").getrandbits(60)
        service = await open_node(
            machine.disk,
            machine.kv,
            machine.clock,
            SimRandom(seed),
            cluster_id=self.cluster_id,
            name=machine.name,
            zone="z",
            capacity_bytes=1 << 30,
            reserve_bytes=0,
            partition_bits=PARTITION_BITS,
        )
        machine.service = service
        self.network.listen(machine.name, machine.name, service)
        lease = encode_lease(
            NodeLease(service.id, machine.name, "z", machine.name, 1 << 30, 0, 1 << 30, machine.boots, "sim")
        )
        machine.heartbeat = Heartbeat(self.coordinator(machine.name), f"nodes/{service.id}", lambda: lease, TTL_S)
        machine.heartbeat.start()

    async def _start_repairer(self, index: int) -> None:
        process = f"repairer{index + 1}"
        clock, coordinator = SimClock(self.loop), self.coordinator(process)
        directory = Directory(coordinator, clock)
        directory.start()
        settings = RepairSettings(
            self.code,
            PARTITION_BITS,
            self.codec,
            self.nodes,
            down_after_s=2.0,
            out_after_s=4.0,
            steady_s=1.0,
            election_ttl_s=2.0,
            garbage_delay_s=5.0,
            orphan_age_s=60.0,
            orphan_round_s=20.0,
        )
        transport = SimTransport(self.network, process)
        random = SimRandom(self.seed + 2000 + index)
        repairer = Repairer(coordinator, directory, transport, clock, random, settings, process)
        repairer.start()
        self.repairers.append(repairer)

    async def survey(self) -> Survey | None:
        """What the repairer last said."""
        entry = await self.coordinator("").get("survey")
        return decode_survey(entry.value) if entry is not None else None

    async def _start_gateway(self, index: int) -> None:
        process = f"gateway{index + 1}"
        clock = SimClock(self.loop)
        directory = Directory(self.coordinator(process), clock)
        directory.start()
        await directory.wait_ready(10.0)
        self._directories.append(directory)
        peers = Peers(directory, SimTransport(self.network, process), clock)
        self.engines.append(Engine(peers, clock, SimRandom(self.seed + 1000 + index)))

    async def converged(self, within_s: float) -> str:
        """ "" once every object is whole and every machine is a member that is in; else what is left."""
        return await self._until(within_s, everyone=True)

    async def whole(self, within_s: float) -> str:
        """ "" once every object is at full redundancy, whoever is out; else what is left."""
        return await self._until(within_s, everyone=False)

    async def _until(self, within_s: float, *, everyone: bool) -> str:
        end = self.loop.time() + within_s
        coordinator = self.coordinator("")
        while True:
            survey = await self.survey()
            entry = await coordinator.get("map")
            if survey is not None and entry is not None:
                cluster_map = decode_map(entry.value)
                fresh = SimClock(self.loop).wall_ms() - survey.as_of_ms < 5000
                whole = survey.objects.full == survey.objects.total and survey.repair.state == "idle"
                members = {node.id for node in cluster_map.nodes if node.id not in cluster_map.current.out}
                settled = cluster_map.next is None and members == {m.service.id for m in self.machines if m.service}
                all_in = not everyone or not cluster_map.current.out
                if fresh and whole and settled and all_in:
                    return ""
            if self.loop.time() > end:
                return f"not whole again: {survey}"
            await asyncio.sleep(0.5)

    # --- faults -------------------------------------------------------------------------------------------

    def kill(self, machine: SimNode, *, power: bool = False) -> None:
        """SIGKILL; with `power` also what was not synced is lost or torn."""
        self.network.unlisten(machine.name)
        self.loop.kill(machine.name)
        machine.service = machine.heartbeat = None
        if power:
            machine.disk.crash(self.random)
            machine.kv.crash(self.random)

    def wipe(self, machine: SimNode) -> None:
        """A new empty disk; the machine is down."""
        assert not machine.up
        machine.disk, machine.kv = SimDisk(), SimKV(TABLES)

    def pause(self, machine: SimNode) -> None:
        self.network.paused.add(machine.name)

    def resume(self, machine: SimNode) -> None:
        self.network.paused.discard(machine.name)

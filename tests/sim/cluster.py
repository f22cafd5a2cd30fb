"""A whole cluster in one process under the simulated loop: coordinator, nodes, gateways' engines, repairers.

The code that runs is the product's; clock, randomness, disks, key-value stores and network are simulated.
Each process has its own name in the loop and a clock of its own, so that it can be killed with all its tasks, lose
power, pause, and err about the time. Names: coordinator, gateway1.., repairer1.., and those of the machines.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from objstore.cluster.directory import Directory
from objstore.cluster.embedded import CoordinatorService, RemoteCoordinator, open_coordinator
from objstore.cluster.lease import Heartbeat
from objstore.cluster.port import MAP_KEY, SURVEY_KEY
from objstore.engine.engine import Engine
from objstore.engine.peers import Peers
from objstore.model.cluster import ErasureCode, NodeLease, decode_map, encode_lease
from objstore.model.errors import Fatal, Unavailable
from objstore.model.survey import Survey, decode_survey
from objstore.node import damage
from objstore.node.pace import QUICK_S
from objstore.node.sealed import SealedKV
from objstore.node.service import COUNTED, INDEX, TABLES, NodeService, open_node
from objstore.notify.sender import Sender
from objstore.ports import DamagedKV
from objstore.repair.service import Repairer
from objstore.repair.settings import RepairSettings
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV
from tests.sim.loop import SimLoop, in_process
from tests.sim.network import NetworkFaults, SimNetwork, SimTransport

TTL_S = 2.0
PARTITION_BITS = 4
RECORD_FILE_BYTES = 64 * 1024  # small, so that journals are compacted

T = TypeVar("T")


class SimClock:
    """Virtual time; `skew_ms` is this process's error against true wall time, changed at will."""

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self.skew_ms = skew_ms

    def monotonic(self) -> float:
        return self._loop.time()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self._loop.time() * 1000) + self.skew_ms


class Gone(Exception):
    """The gateway died before it answered: whoever asked does not know what came of it."""


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
    zone: str = "z"
    member: bool = True  # False: a spare, or drained
    boots: int = 0
    service: NodeService | None = None
    heartbeat: Heartbeat | None = None

    former: list[SimKV] = field(default_factory=list)  # that were set aside

    @property
    def up(self) -> bool:
        return self.service is not None

    @property
    def rows(self) -> SealedKV:
        """What is in the store, to look at."""
        return SealedKV(self.kv, COUNTED)

    def open_index(self) -> None:
        """What `objstore.cli.store` does: a damaged store is set aside."""
        try:
            if not damage.is_marked(self.disk, INDEX):
                self.rows.check()
        except DamagedKV as found:
            damage.mark(self.disk, INDEX, str(found.strerror))
        if damage.is_marked(self.disk, INDEX):
            damage.set_aside(self.disk, INDEX, self._move)
        self.disk.make_dir(INDEX)

    def _move(self, name: str) -> None:
        self.disk.make_dir(name)
        self.former.append(self.kv)
        self.kv = SimKV(TABLES)


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
    zones: int = 1
    sender: Callable[[str], Sender] | None = None  # of event notifications, for each repairer
    repair: dict[str, float] = field(default_factory=dict)  # settings of the repairers that differ from `settings`
    quick: frozenset[str] = frozenset()  # nodes that do on the event loop what takes little time

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.random = random.Random(self.seed ^ 0x5EED)
        self.network = SimNetwork(loop)
        self.clocks: dict[str, SimClock] = {}
        self.machines: list[SimNode] = []
        for _ in range(self.nodes):
            self.add_machine()
        self.coordinator_kv, self.coordinator_disk = SimKV(("co",)), SimDisk()
        self.cluster_id = ""  # of the first coordinator
        self.engines: list[Engine] = []
        self.repairers: list[Repairer] = []
        self.ready: dict[str, None] = {}  # gateways that serve
        self.pauses: list[tuple[str, float]] = []  # (process, when)
        self.resumes: list[tuple[str, float]] = []
        self._boots: dict[str, int] = {}
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
        self.loop.paused.clear()
        for name in list(self.loop.tasks_of):
            if name:
                self.loop.kill(name)
        await asyncio.sleep(1)

    async def _as(self, process: str, coroutine: object) -> None:
        await in_process(process, self.loop.create_task, coroutine)

    def clock(self, process: str) -> SimClock:
        return self.clocks.setdefault(process, SimClock(self.loop))

    def _chance(self, process: str) -> SimRandom:
        """Randomness of a process; another one at each start."""
        boot = self._boots[process] = self._boots.get(process, 0) + 1
        return SimRandom(random.Random(f"{self.seed} {process} {boot}").getrandbits(60))

    async def _start_coordinator(self) -> None:
        process = "coordinator"
        chance = self._chance(process)
        self._coordinator = await open_coordinator(
            self.coordinator_kv,
            self.clock(process),
            chance,
            name="sim",
            disk=self.coordinator_disk,
            cluster_id=self.cluster_id,
        )
        self.network.listen(process, process, self._coordinator)

    def coordinator(self, process: str) -> RemoteCoordinator:
        return RemoteCoordinator(SimTransport(self.network, process), "coordinator")

    # --- machines -----------------------------------------------------------------------------------------

    def add_machine(self) -> SimNode:
        """An empty machine, down. Once started it is a spare until a layout gives it a share."""
        number = len(self.machines)
        name = f"n{number + 1}"
        zone = f"z{number % self.zones + 1}"
        self.machines.append(SimNode(name, SimDisk(), SimKV(TABLES), self.clock(name), zone))
        return self.machines[-1]

    async def start_node(self, machine: SimNode) -> None:
        machine.boots += 1
        await self._as(machine.name, self._start_node(machine))

    async def _start_node(self, machine: SimNode) -> None:
        def on_fatal(fatal: Fatal) -> None:
            self.loop.call_soon(self._ended, machine, machine.boots, context=contextvars.Context())

        machine.open_index()
        directory = Directory(self.coordinator(machine.name), machine.clock, with_nodes=False)
        directory.start()
        service = await open_node(
            machine.disk,
            machine.kv,
            machine.clock,
            self._chance(machine.name),
            cluster_id=self.cluster_id,
            name=machine.name,
            zone=machine.zone,
            capacity_bytes=1 << 30,
            reserve_bytes=0,
            partition_bits=PARTITION_BITS,
            record_file_bytes=RECORD_FILE_BYTES,
            quick_s=QUICK_S if machine.name in self.quick else 0.0,
            on_fatal=on_fatal,
            newest_map=lambda: directory.raw_map,
            has_share=directory.gives_share,
        )
        machine.service = service
        self.network.listen(machine.name, machine.name, service)
        lease = NodeLease(
            service.id, machine.name, machine.zone, machine.name, 1 << 30, 0, 1 << 30, machine.boots, "sim"
        )

        def say() -> bytes:
            now = msgspec.structs.replace(
                lease, lost=service.has_lost_records, written=service.is_written, level=service.report().level
            )
            return encode_lease(now)

        machine.heartbeat = Heartbeat(self.coordinator(machine.name), f"nodes/{service.id}", say, TTL_S)
        machine.heartbeat.start()

    def _ended(self, machine: SimNode, boot: int) -> None:
        """A node ends itself after its disk failed."""
        if machine.boots == boot and machine.up:
            self.kill(machine)

    # --- gateways and repairers ---------------------------------------------------------------------------

    def settings(self) -> RepairSettings:
        times: dict[str, Any] = {
            "down_after_s": 2.0,
            "out_after_s": 4.0,
            "steady_s": 1.0,
            "election_ttl_s": 2.0,
            "garbage_delay_s": 5.0,
            "orphan_age_s": 60.0,
            "orphan_round_s": 20.0,
        }
        return RepairSettings(self.code, PARTITION_BITS, self.codec, self.nodes, **{**times, **self.repair})

    async def _start_repairer(self, index: int) -> None:
        process = f"repairer{index + 1}"
        clock, coordinator = self.clock(process), self.coordinator(process)
        directory = Directory(coordinator, clock)
        directory.start()
        transport = SimTransport(self.network, process)
        chance = self._chance(process)
        sender = self.sender(process) if self.sender is not None else None
        repairer = Repairer(coordinator, directory, transport, clock, chance, self.settings(), process, sender)
        repairer.start()
        self.repairers[index : index + 1] = [repairer]

    async def _start_gateway(self, index: int) -> None:
        process = f"gateway{index + 1}"
        clock = self.clock(process)
        directory = Directory(self.coordinator(process), clock)
        directory.start()
        while directory.topology is None:
            try:
                await directory.wait_ready(10.0)
            except Unavailable:
                continue  # the coordinator is away
        peers = Peers(directory, SimTransport(self.network, process), clock)
        self.engines[index : index + 1] = [Engine(peers, clock, self._chance(process))]
        self.ready[process] = None

    async def at(self, gateway: str, operation: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """What a gateway does for a client. Gone if it dies meanwhile; who is cancelled here hangs up there."""
        engine = self.engines[int(gateway.removeprefix("gateway")) - 1]
        task: asyncio.Task[T] = in_process(gateway, self.loop.create_task, operation(engine))
        life = self.loop.lives.get(gateway, 0)
        try:
            return await task
        except asyncio.CancelledError:
            if self.loop.lives.get(gateway, 0) == life:
                raise
            client = asyncio.current_task()
            if client is not None and client.cancelling():
                raise
            raise Gone(gateway) from None

    async def survey(self) -> Survey | None:
        """What the repairer last said."""
        found = self.peek(SURVEY_KEY)
        return decode_survey(found) if found is not None else None

    def peek(self, key: str) -> bytes | None:
        """What the coordinator holds, whatever the network does."""
        assert self._coordinator is not None
        entry = self._coordinator._store.get(key)
        return entry.value if entry is not None else None

    async def converged(self, within_s: float) -> str:
        """ "" once every object is whole and every machine is a member that is in; else what is left."""
        return await self._until(within_s, everyone=True)

    async def whole(self, within_s: float) -> str:
        """ "" once every object is at full redundancy, whoever is out; else what is left."""
        return await self._until(within_s, everyone=False)

    async def _until(self, within_s: float, *, everyone: bool) -> str:
        """Only a survey counts that began after this call."""
        began = self.loop.time()
        while True:
            left = await self.unsettled(began, everyone=everyone)
            if not left or self.loop.time() > began + within_s:
                return left
            await asyncio.sleep(0.5)

    async def unsettled(self, since: float, *, everyone: bool) -> str:
        """What the repairers still have to do, by a survey of after `since`."""
        survey = await self.survey()
        found = self.peek(MAP_KEY)
        if survey is None or found is None:
            return "there is no survey yet"
        cluster_map = decode_map(found)
        age_s = (self.clock(survey.leader).wall_ms() - survey.as_of_ms) / 1000
        members = {node.id for node in cluster_map.nodes if node.id not in cluster_map.current.out}
        if abs(age_s) > max(0.0, self.loop.time() - since - 1.0):
            return f"no new survey since {age_s:.1f} s"
        if survey.objects.full != survey.objects.total or survey.repair.state != "idle":
            return f"not whole: {survey}"
        if cluster_map.next is not None:
            return f"the layout still changes: {survey}"
        if members != {m.service.id for m in self.machines if m.service and m.member}:
            return f"not everybody who lives is in: {survey}"
        return f"some are out: {survey}" if everyone and cluster_map.current.out else ""

    # --- faults -------------------------------------------------------------------------------------------

    def kill(self, machine: SimNode, *, power: bool = False, dark: bool = False) -> None:
        """SIGKILL; with `power` also what was not synced is lost or torn; `dark`: connections are not even refused."""
        self.stop(machine.name, dark=dark)
        machine.service = machine.heartbeat = None
        if power:
            machine.disk.crash(self.random)
            machine.kv.crash(self.random)

    def stop(self, process: str, *, dark: bool = False) -> None:
        """SIGKILL of any process."""
        self.network.unlisten(process)
        if dark:
            self.network.dark.add(process)
        self.thaw(process)
        self.loop.kill(process)
        self.ready.pop(process, None)

    async def start(self, process: str) -> None:
        """Start a gateway, a repairer or the coordinator again."""
        index = int(process[-1:]) - 1 if process != "coordinator" else 0
        match process.rstrip("0123456789"):
            case "coordinator":
                await self._as(process, self._start_coordinator())
            case "repairer":
                await self._as(process, self._start_repairer(index))
            case "gateway":
                await self._as(process, self._start_gateway(index))

    def wipe(self, machine: SimNode) -> None:
        """A new empty disk; the machine is down."""
        assert not machine.up
        machine.disk, machine.kv = SimDisk(), SimKV(TABLES)

    def lose_index(self, machine: SimNode) -> None:
        """The key-value store is gone, volumes and journal are there; the machine is down."""
        assert not machine.up
        machine.kv = SimKV(TABLES)

    def pause(self, machine: SimNode) -> None:
        self.freeze(machine.name)

    def resume(self, machine: SimNode) -> None:
        self.thaw(machine.name)

    def freeze(self, process: str) -> None:
        """SIGSTOP."""
        if process not in self.loop.paused:
            self.loop.paused.add(process)
            self.pauses.append((process, self.loop.time()))

    def thaw(self, process: str) -> None:
        """SIGCONT."""
        if process in self.loop.paused:
            self.loop.paused.discard(process)
            self.resumes.append((process, self.loop.time()))

    def paused_s(self, process: str, since: float) -> float:
        """For how long it has stood still since then."""
        ends = [at for name, at in self.resumes if name == process] + [self.loop.time()]
        starts = [at for name, at in self.pauses if name == process]
        return sum(max(0.0, end - max(start, since)) for start, end in zip(starts, ends, strict=False))

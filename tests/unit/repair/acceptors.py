"""Acceptors in dictionaries, a map in a variable, and proposers on both: enough to watch a layout change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from objstore.cluster.port import Entry
from objstore.engine.registers import Registers
from objstore.model.clock import ZERO, Ballot
from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, View, decode_map, encode_map
from objstore.model.errors import InsufficientStorage, Unreachable
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import RegisterKey, Space, Value
from objstore.placement.topology import Topology
from objstore.ports import Buffer, Told
from objstore.register import acceptor
from objstore.register.acceptor import EMPTY, AcceptorState
from objstore.register.change import Outcome, body_of
from objstore.repair.transition import Transition, Versioned
from objstore.wire import messages as m
from objstore.wire.fields import NO_BALLOT
from tests.sim.network import begin_telling

CODE = ErasureCode(1, 1)  # three replicas
BITS = 2
BUCKET = BucketId(bytes(15) + b"\x01")


class Crash(Exception):
    """The process that made this call is no more."""


@dataclass
class Stored:
    acceptor: AcceptorState = EMPTY
    listing: bytes = b""
    state: bytes = b""
    data: bytes = b""


@dataclass
class Acceptors:
    """Implements repair.ports.Calls. Down nodes do not answer; `before_call` may raise, or wait."""

    names: tuple[NodeId, ...]
    show_promises: bool = True
    joint_fences: bool = True
    down: dict[NodeId, None] = field(default_factory=dict)
    full: set[NodeId] = field(default_factory=set)
    registers: dict[tuple[NodeId, int], dict[bytes, Stored]] = field(default_factory=dict)
    fences: dict[tuple[NodeId, int], int] = field(default_factory=dict)
    floors: dict[tuple[NodeId, int], Ballot] = field(default_factory=dict)
    before_call: Callable[[NodeId, m.Request], None] = lambda node, request: None

    def is_up(self, node: NodeId) -> bool:
        return node not in self.down

    async def call(
        self, node: NodeId, request: m.Request, payload: Buffer = b"", *, timeout_s: float = 4.0
    ) -> tuple[m.Reply, bytes]:
        self.before_call(node, request)
        await asyncio.sleep(0)
        if node in self.down:
            raise Unreachable(f"{node} is down")
        return self.answer(node, request, bytes(payload))

    def table(self, node: NodeId, partition: int) -> dict[bytes, Stored]:
        return self.registers.setdefault((node, partition), {})

    def answer(self, node: NodeId, request: m.Request, payload: bytes) -> tuple[m.Reply, bytes]:
        match request:
            case m.RegRead() | m.RegPrepare() | m.RegAccept() | m.RegInstall() | m.RegForget():
                if request.tag < self.fences.get((node, request.partition), 0):
                    return m.RegStale(self.fences[node, request.partition]), b""
                return self.current(node, request, payload)
            case m.RegFence():
                for p in request.partitions:
                    self.fences[node, p] = max(self.fences.get((node, p), 0), request.tag)
                return m.Ok(), b""
            case m.RegDrop():
                for p in request.partitions:
                    if self.fences.get((node, p), 0) < request.tag:
                        self.fences[node, p] = request.tag
                        self.table(node, p).clear()
                        self.floors.pop((node, p), None)
                return m.Ok(), b""
            case m.RegDigests():
                counts = [len(self.written(node, p)) for p in request.partitions]
                return m.RegDigested(counts, [0] * len(counts)), b""
            case m.RegPull():
                return self.pull(node, request)
        raise AssertionError(request)

    def current(
        self,
        node: NodeId,
        request: m.RegRead | m.RegPrepare | m.RegAccept | m.RegInstall | m.RegForget,
        payload: bytes,
    ) -> tuple[m.Reply, bytes]:
        if isinstance(request, m.RegInstall):
            return self.install(node, request, payload), b""
        if isinstance(request, m.RegForget):
            return self.forget(node, request), b""
        if isinstance(request, m.RegRead | m.RegPrepare) and acceptor.is_joint(request.tag) and self.joint_fences:
            self.fences[node, request.partition] = request.tag
        held = self.table(node, request.partition).setdefault(request.key, Stored())
        takes_room = isinstance(request, m.RegAccept) and (request.listing or payload)
        if takes_room and node in self.full and held.acceptor.promised != Ballot.unpack(request.ballot):
            raise InsufficientStorage("No room for new metadata")
        reply, data = self.one(held, self.floor(node, request.partition), request, payload)
        if isinstance(request, m.RegPrepare) and isinstance(reply, m.RegState) and node in self.full:
            reply = msgspec.structs.replace(reply, full=True)
        return reply, data

    def floor(self, node: NodeId, partition: int) -> Ballot:
        return self.floors.get((node, partition), ZERO)

    def one(
        self, held: Stored, floor: Ballot, request: m.RegRead | m.RegPrepare | m.RegAccept, payload: bytes
    ) -> tuple[m.Reply, bytes]:
        known = NO_BALLOT if held.acceptor.accepted != ZERO else floor.pack()
        state = m.RegState(held.acceptor.accepted.pack(), held.listing, held.state, known)
        if isinstance(request, m.RegRead):
            return state, held.data
        ballot = Ballot.unpack(request.ballot)
        decide = acceptor.prepare if isinstance(request, m.RegPrepare) else acceptor.accept
        held.acceptor, granted = decide(held.acceptor, ballot, floor)
        if not granted:
            return m.RegRefused(acceptor.refusal(held.acceptor, floor).pack()), b""
        if isinstance(request, m.RegAccept):
            held.listing, held.state, held.data = request.listing, request.state, payload
            return m.RegAccepted(), b""
        return state, held.data

    def written(self, node: NodeId, partition: int) -> dict[bytes, Stored]:
        return {k: v for k, v in self.table(node, partition).items() if v.acceptor.accepted != ZERO}

    def pull(self, node: NodeId, request: m.RegPull) -> tuple[m.Reply, bytes]:
        everything = request.promises and request.ballots_only and self.show_promises
        table = self.table(node, request.partition) if everything else self.written(node, request.partition)
        keys = [key for key in sorted(table) if key > request.after]
        page = keys[: request.limit]
        rows = [table[key] for key in page]
        full = [] if request.ballots_only else rows
        reply = m.RegPulled(
            page,
            b"".join(row.acceptor.accepted.pack() for row in rows),
            [row.listing for row in full],
            [row.state for row in full],
            [len(row.data) for row in full],
            len(keys) > len(page),
            self.fences.get((node, request.partition), 0),
            b"".join(row.acceptor.promised.pack() for row in rows) if everything else b"",
            self.floor(node, request.partition).pack(),
        )
        return reply, b"".join(row.data for row in full)

    def install(self, node: NodeId, request: m.RegInstall, payload: bytes) -> m.Reply:
        offset = 0
        for i, key in enumerate(request.keys):
            data = payload[offset : offset + request.data_lengths[i]]
            offset += len(data)
            held = self.table(node, request.partition).setdefault(key, Stored())
            ballot = Ballot.unpack(request.ballots[16 * i : 16 * i + 16])
            held.acceptor, taken = acceptor.install(held.acceptor, ballot, self.floor(node, request.partition))
            if taken:
                held.listing, held.state, held.data = request.listings[i], request.states[i], data
        return m.Ok()

    def forget(self, node: NodeId, request: m.RegForget) -> m.Reply:
        floor = max(self.floor(node, request.partition), Ballot.unpack(request.floor))
        self.floors[node, request.partition] = floor
        table = self.table(node, request.partition)
        for i, key in enumerate(request.keys):
            held = table.get(key, Stored())
            empty = not held.listing and not body_of(Value(b"", held.state, b""))
            if empty and acceptor.may_forget(held.acceptor, Ballot.unpack(request.ballots[16 * i :][:16]), floor):
                table.pop(key, None)
        return m.Ok()


class OneMap:
    """Implements as much of the coordinator as a transition uses."""

    def __init__(self, cluster_map: ClusterMap) -> None:
        self.raw = encode_map(cluster_map)
        self.revision = 1
        self.before_put: Callable[[], None] = lambda: None

    def now(self) -> Versioned:
        return Versioned(decode_map(self.raw), self.revision)

    async def get(self, key: str) -> Entry | None:
        return Entry(key, self.raw, self.revision)

    async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
        self.before_put()
        await asyncio.sleep(0)
        if expected != self.revision:
            return None
        self.raw, self.revision = value, self.revision + 1
        return self.revision


class StillClock:
    def __init__(self, wall_ms: int = 1_000_000) -> None:
        self.now_ms = wall_ms

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return self.now_ms


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class Proposers:
    """What engine.Registers needs of Peers. Sees the map only when it asks (`refresh`)."""

    def __init__(self, acceptors: Acceptors, coordinator: OneMap) -> None:
        self._acceptors = acceptors
        self._coordinator = coordinator
        self.topology = Topology(coordinator.now().map)
        self.call = acceptors.call
        self.is_up = acceptors.is_up

    def send(self, node: NodeId, request: m.Request, payload: Buffer, told: Told) -> None:
        begin_telling(lambda: self.call(node, request, payload), told)

    async def refresh(self, known: Topology | None = None) -> None:
        self.topology = Topology(self._coordinator.now().map)


@dataclass
class World:
    acceptors: Acceptors
    coordinator: OneMap

    def registers(self, seed: int, wall_ms: int = 1_000_000) -> Registers:
        return Registers(Proposers(self.acceptors, self.coordinator), StillClock(wall_ms), Seeded(seed))  # type: ignore[arg-type]

    def transition(self, seed: int) -> Transition:
        registers = self.registers(seed, 2_000_000)

        async def settle(key: RegisterKey) -> None:
            await registers.change(key, lambda body: Outcome())

        return Transition(self.acceptors, self.coordinator, settle)  # type: ignore[arg-type]

    async def change_layout(self, seed: int, layout: Layout, out: tuple[NodeId, ...] = ()) -> str:
        """Begin and go on as far as possible, as a leader that knows only the map. Why it stopped, or ""."""
        transition = self.transition(seed)
        now = self.coordinator.now()
        if now.map.next is None and (now.map.current.layout != layout or now.map.current.out != out):
            step = await transition.begin(now, layout, out)
            if step.held_up:
                return step.held_up
        while (now := self.coordinator.now()).map.next is not None:
            step = await transition.advance(now)
            if step.held_up:
                return step.held_up
        await transition.forget(now.map)
        return ""


def make_world(names: str, rows: list[str], **options: bool) -> World:
    """rows: owners of metadata per partition, as letters of `names`; fewer rows repeat."""
    nodes = tuple(NodeId(letter) for letter in names)
    return World(
        Acceptors(nodes, **options),
        OneMap(
            ClusterMap(
                "c" * 32,
                CODE,
                BITS,
                "zfec",
                tuple(Node(node, node, "z", 1) for node in nodes),
                View(1, layout_of(names, rows)),
            )
        ),
    )


def layout_of(names: str, rows: list[str]) -> Layout:
    partitions = 1 << BITS
    meta = tuple(tuple(names.index(letter) for letter in rows[p % len(rows)]) for p in range(partitions))
    data = tuple(row[: CODE.shards] for row in meta)
    return Layout(tuple(NodeId(letter) for letter in names), data, meta)


def key_of(number: int) -> RegisterKey:
    return RegisterKey(BUCKET, Space.OBJECT, b"key%d" % number)


async def append(registers: Registers, key: RegisterKey, word: bytes) -> None:
    """The value is the list of all words; each operation adds its own, once."""
    await registers.change(key, lambda body: Outcome(b"", body + word + b" ", b"l"))


async def words(registers: Registers, key: RegisterKey) -> list[bytes]:
    return body_of(await registers.read(key)).split()

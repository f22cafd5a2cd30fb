"""Failing items wait longer each time and hold up nobody; the budget holds the pace; parked work comes back."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from objstore.engine.rebuilding import Job, Stored
from objstore.model.cluster import ClusterMap, ErasureCode, Node, View
from objstore.model.errors import InsufficientStorage
from objstore.model.ids import BlobId, NodeId
from objstore.model.manifest import BlobRef
from objstore.placement.layout import compute_layout
from objstore.placement.topology import Topology
from objstore.repair.dispatcher import FAILED_AFTER, Budget, Dispatcher, Parked, Silence
from objstore.repair.inventory import Inventory, Record
from objstore.repair.settings import RepairSettings
from tests.sim.loop import run
from tests.unit.repair.acceptors import Seeded, StillClock

CODE = ErasureCode(2, 1)
NODES = tuple(NodeId(letter * 16) for letter in "abcd")
SETTINGS = RepairSettings(code=CODE, partition_bits=2, jobs=3, jobs_per_node=2)


class FakeExecutor:
    """Does what it is told to, and remembers it."""

    def __init__(self) -> None:
        self.broken: set[bytes] = set()
        self.done: list[tuple[bytes, int, NodeId]] = []
        self.tried: list[tuple[float, bytes]] = []
        self.at_once = self.most_at_once = self.most_on_a_node = 0
        self.writing: dict[NodeId, int] = {}

    async def run(self, job: Job) -> list[Stored]:
        self.tried.append((asyncio.get_running_loop().time(), job.blob.id))
        targets = [placed.target for placed in job.rebuild]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for node in targets:
            self.writing[node] = self.writing.get(node, 0) + 1
            self.most_on_a_node = max(self.most_on_a_node, self.writing[node])
        await asyncio.sleep(0.3)
        for node in targets:
            self.writing[node] -= 1
        self.at_once -= 1
        if job.blob.id in self.broken:
            raise InsufficientStorage("no room")
        self.done += [(job.blob.id, placed.shard, placed.target) for placed in job.rebuild]
        return [Stored(job.fragment(p.shard).pack(), p.target, 100) for p in job.rebuild]


class Bench:
    def __init__(self, blobs: int, missing: int = 1) -> None:
        nodes = tuple(Node(node, node[0], "z", 1) for node in NODES)
        view = View(1, compute_layout(nodes, CODE, 2))
        self.topology = Topology(ClusterMap("c" * 32, CODE, 2, "zfec", nodes, view))
        self.inventory = Inventory(CODE)
        self.live(*NODES)
        self.inventory.set_replicas(0, 3, {})
        self.blobs = [
            BlobRef(BlobId(bytes((0, 0, 0, 0, 0, i)) + bytes(10)), 90, "zfec", 2, 1, 16, 100) for i in range(blobs)
        ]
        for i, blob in enumerate(self.blobs):
            self.inventory.set_record(0, bytes(16) + b"\x01key%d" % i, Record(b"b", True, (blob,)))
            partition = self.topology.partition_of_blob(blob.id, 0)
            for shard, owner in enumerate(self.topology.data_owners(partition)):
                if shard >= missing:
                    self.inventory.note_stored(owner, partition, blob.id + bytes(4) + bytes((shard,)))
        self.judge()
        self.executor = FakeExecutor()
        self.stored: list[Stored] = []
        self.silence = Silence()
        self.dispatcher = Dispatcher(
            self.executor,  # type: ignore[arg-type]
            self.inventory,
            StillClock(),
            Seeded(1),
            SETTINGS,
            self.stored.append,
            lambda: self.silence,
        )

    def live(self, *nodes: NodeId) -> None:
        self.inventory.set_cluster(self.topology, nodes)

    def judge(self) -> None:
        while not self.inventory.is_judged:
            self.inventory.judge(1000)

    async def work(self, seconds: float) -> None:
        task = asyncio.create_task(self.dispatcher.work())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_all_is_repaired_with_bounded_work_and_the_oldest_first() -> None:
    async def main() -> None:
        bench = Bench(20)
        await bench.work(10)
        assert bench.inventory.histogram == [0, 0, 0, 20] and bench.inventory.in_debt == 0
        assert bench.inventory.restored == 20 and len(bench.stored) == 20
        assert bench.executor.most_at_once == 3 and bench.executor.most_on_a_node <= 2
        begun = [blob for _, blob in bench.executor.tried]
        assert set(begun[:3]) <= {blob.id for blob in bench.blobs[:6]}

    run(main, 1)


def test_a_failing_item_backs_off_is_reported_and_holds_up_nobody() -> None:
    async def main() -> None:
        bench = Bench(10)
        bad = bench.blobs[0].id
        bench.executor.broken = {bad}
        await bench.work(6)
        assert bench.inventory.histogram == [0, 0, 1, 9]
        times = [at for at, blob in bench.executor.tried if blob == bad]
        pauses = [b - a for a, b in pairwise(times)]
        assert len(times) >= 3 and pauses == sorted(pauses)
        (failure,) = bench.dispatcher.failures.values()
        assert failure.error == "no room" and failure.attempts == len(times)
        await bench.work(400)
        assert next(iter(bench.dispatcher.failures.values())).attempts >= FAILED_AFTER
        bench.executor.broken = set()
        await bench.work(70)
        assert bench.inventory.histogram == [0, 0, 0, 10]
        assert not bench.dispatcher.failures

    run(main, 2)


def test_parked_work_comes_back_when_nodes_do() -> None:
    async def main() -> None:
        bench = Bench(8, missing=0)
        gone = NODES[0]
        bench.live(*NODES[1:])
        bench.judge()
        bench.silence = Silence(frozenset([gone]), frozenset([gone]))
        hurt = bench.inventory.in_debt
        assert hurt > 0
        await bench.work(5)
        assert bench.dispatcher.parked()[Parked.WAITING] == hurt and not bench.executor.tried
        bench.silence = Silence()
        await bench.work(5)
        assert bench.inventory.in_debt == 0, "given up: rebuilt on the stand-in"
        bench.live(*NODES[2:])
        bench.judge()
        await bench.work(5)
        parked = bench.dispatcher.parked()
        assert parked[Parked.BLOCKED] > 0 and bench.inventory.in_debt > 0
        bench.live(*NODES)
        bench.judge()
        await bench.work(8)
        assert bench.inventory.histogram == [0, 0, 0, 8]

    run(main, 3)


def test_what_cannot_be_helped_any_more_is_no_failure() -> None:
    async def main() -> None:
        bench = Bench(3)
        blob = bench.blobs[0]
        bench.executor.broken = {blob.id}
        await bench.work(2)
        assert len(bench.dispatcher.failures) == 1
        partition = bench.topology.partition_of_blob(blob.id, 0)
        owners = bench.topology.data_owners(partition)
        for node in NODES:
            kept = [blob.id + bytes(4) + b"\x02"] if node == owners[2] else []
            bench.inventory.set_fragments(node, partition, b"".join(kept))
        bench.judge()
        await bench.work(10)
        hopeless = [one for one in bench.blobs if bench.topology.partition_of_blob(one.id, 0) == partition]
        assert not bench.dispatcher.failures
        assert bench.dispatcher.parked() == {Parked.HOPELESS: len(hopeless)}
        assert bench.dispatcher.hopeless() == (len(hopeless), frozenset())
        bench.inventory.set_fragments(owners[0], partition, blob.id + bytes(5))
        bench.live(*(node for node in NODES if node != owners[0]))
        bench.judge()
        await bench.work(2)
        assert bench.dispatcher.hopeless() == (len(hopeless), frozenset([owners[0]]))

    run(main, 5)


def test_a_shard_that_no_silent_node_holds_is_rebuilt_at_once() -> None:
    async def main() -> None:
        bench = Bench(8, missing=0)
        gone = NODES[0]
        for partition in range(4):
            bench.inventory.set_fragments(gone, partition, b"")
        bench.live(*NODES[1:])
        bench.judge()
        bench.silence = Silence(frozenset([gone]), frozenset([gone]))
        assert bench.inventory.in_debt > 0
        await bench.work(5)
        assert bench.executor.done and bench.inventory.in_debt == 0

    run(main, 6)


def test_the_budget_holds_the_mean_rate() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        budget = Budget(StillClock(), 1000)
        for _ in range(50):
            await budget.spend(100)
        assert 4.5 <= loop.time() - begin <= 5.0
        assert not Budget(StillClock(), 0).holds_back

    run(main, 4)

"""Failing items wait longer each time and hold up nobody; the budget holds the pace; parked work comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from objstore.engine.rebuilding import Job, Slot, Stored
from objstore.engine.types import Placed
from objstore.model.cluster import ClusterMap, ErasureCode, Node, View
from objstore.model.errors import InsufficientStorage
from objstore.model.ids import BlobId, NodeId
from objstore.model.manifest import BlobRef
from objstore.model.survey import Kind
from objstore.placement.layout import compute_layout
from objstore.placement.topology import Topology
from objstore.repair.dispatcher import FAILED_AFTER, Dispatcher, Parked, Silence
from objstore.repair.inventory import Inventory
from objstore.repair.pace import Pace
from objstore.repair.record import Record
from objstore.repair.settings import RepairSettings
from objstore.repair.tally import Harm
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

    async def run(self, job: Job, slot: Slot, window_bytes: int = 0) -> list[Stored]:
        self.tried.append((asyncio.get_running_loop().time(), job.blob.id))
        places = [*job.rebuild, *(Placed(moved.shard, moved.target) for moved in job.move)]
        targets = [placed.target for placed in places]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for node in targets:
            self.writing[node] = self.writing.get(node, 0) + 1
            self.most_on_a_node = max(self.most_on_a_node, self.writing[node])
        async with slot(100 * len(places)):
            await asyncio.sleep(0.3)
        for node in targets:
            self.writing[node] -= 1
        self.at_once -= 1
        if job.blob.id in self.broken:
            raise InsufficientStorage("no room")
        self.done += [(job.blob.id, placed.shard, placed.target) for placed in places]
        return [Stored(job.fragment(p.shard).pack(), p.target, 100) for p in places]


class Noted:
    """The books, as lists."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.kinds: list[Kind] = []
        self.retries = 0

    def moved(self, kind: Kind, traffic: float, written: int) -> None:
        assert traffic > written > 0

    def finished(self, kind: Kind, traffic: float, held_s: float, stored: Sequence[Stored]) -> None:
        self.stored += stored
        self.kinds.append(kind)

    def failed(self, kind: Kind) -> None:
        self.retries += 1


class Bench:
    def __init__(self, blobs: int, missing: int = 1, members: tuple[NodeId, ...] = NODES) -> None:
        self.members = members
        nodes = tuple(Node(node, node[0], "z", 1) for node in members)
        view = View(1, compute_layout(nodes, CODE, 2))
        self.topology = Topology(ClusterMap("c" * 32, CODE, 2, "zfec", nodes, view))
        self.inventory = Inventory(CODE)
        self.live(*members)
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
        self.books = Noted()
        self.pace = Pace(StillClock(), "unlimited")
        self.silence = Silence()
        self.dispatcher = Dispatcher(
            self.executor,  # type: ignore[arg-type]
            self.inventory,
            StillClock(),
            Seeded(1),
            SETTINGS,
            self.pace,
            self.books,
            lambda: self.silence,
        )

    def live(self, *nodes: NodeId) -> None:
        self.inventory.set_cluster(self.topology, nodes)

    @property
    def debt(self) -> int:
        return sum(self.inventory.tally.count(harm) for harm in (Harm.MISPLACED, Harm.DAMAGED))

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
        assert bench.inventory.tally.histogram == [0, 0, 0, 20] and bench.debt == 0
        assert bench.inventory.tally.restored == 20 and len(bench.books.stored) == 20
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
        assert bench.inventory.tally.histogram == [0, 0, 1, 9]
        times = [at for at, blob in bench.executor.tried if blob == bad]
        pauses = [b - a for a, b in pairwise(times)]
        assert len(times) >= 3 and pauses == sorted(pauses)
        (failure,) = bench.dispatcher.failures.values()
        assert failure.error == "no room" and failure.attempts == len(times)
        await bench.work(400)
        assert next(iter(bench.dispatcher.failures.values())).attempts >= FAILED_AFTER
        bench.executor.broken = set()
        await bench.work(70)
        assert bench.inventory.tally.histogram == [0, 0, 0, 10]
        assert not bench.dispatcher.failures

    run(main, 2)


def test_parked_work_comes_back_when_nodes_do() -> None:
    async def main() -> None:
        bench = Bench(8, missing=0)
        gone = NODES[0]
        bench.live(*NODES[1:])
        bench.judge()
        bench.silence = Silence(frozenset([gone]), frozenset([gone]))
        hurt = bench.debt
        assert hurt > 0
        await bench.work(5)
        assert bench.dispatcher.parked()[0][Parked.WAITING] == hurt and not bench.executor.tried
        bench.silence = Silence()
        await bench.work(5)
        assert bench.debt == 0, "given up: rebuilt on the stand-in"
        bench.live(*NODES[2:])
        bench.judge()
        await bench.work(5)
        parked = bench.dispatcher.parked()[0]
        assert parked[Parked.BLOCKED] > 0 and bench.debt > 0
        bench.live(*NODES)
        bench.judge()
        await bench.work(8)
        assert bench.inventory.tally.histogram == [0, 0, 0, 8]

    run(main, 3)


def test_what_waits_for_room_is_parked_and_comes_back_with_it() -> None:
    async def main() -> None:
        bench = Bench(8)
        everybody = frozenset(NODES)
        bench.silence = Silence(full=everybody, closed=everybody)
        await bench.work(5)
        assert bench.dispatcher.parked()[0] == {Parked.NO_ROOM: 8} and not bench.executor.tried
        assert bench.dispatcher.full == everybody and not bench.dispatcher.failures
        bench.silence = Silence(full=everybody)
        await bench.work(8)
        assert bench.debt == 0, "no new data, but what is rebuilt"

    run(main, 12)


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
        assert bench.dispatcher.parked()[0] == {Parked.HOPELESS: len(hopeless)}
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
        assert bench.debt > 0
        await bench.work(5)
        assert bench.executor.done and bench.debt == 0

    run(main, 6)


def owners_of(bench: Bench, blob: BlobRef) -> tuple[NodeId, ...]:
    return bench.topology.data_owners(bench.topology.partition_of_blob(blob.id, 0))


def misplace(bench: Bench, blob: BlobRef) -> None:
    """Its shard 0 is on a node that owns no other shard of it, and not at home."""
    partition = bench.topology.partition_of_blob(blob.id, 0)
    owners = owners_of(bench, blob)
    shard = blob.id + bytes(4) + b"\x00"
    bench.inventory.note_deleted(owners[0], partition, {shard})
    strangers = (node for node in bench.members if node not in owners and node in bench.inventory.live)
    bench.inventory.note_stored(next(strangers), partition, shard)
    bench.judge()


def lose(bench: Bench, blob: BlobRef, shard: int) -> None:
    partition = bench.topology.partition_of_blob(blob.id, 0)
    fragment = blob.id + bytes(4) + bytes((shard,))
    for node in bench.members:
        bench.inventory.note_deleted(node, partition, {fragment})
    bench.judge()


def test_moves_begin_when_nothing_is_rebuilt_any_more_and_are_counted_apart() -> None:
    async def main() -> None:
        bench = Bench(20, missing=0)
        for blob in bench.blobs[:10]:
            misplace(bench, blob)
        for blob in bench.blobs[10:]:
            lose(bench, blob, 1)
        assert [bench.inventory.tally.count(harm) for harm in (Harm.MISPLACED, Harm.DAMAGED)] == [10, 10]
        await bench.work(20)
        assert bench.books.kinds == ["repair"] * 10 + ["rebalance"] * 10 and bench.debt == 0
        assert bench.inventory.tally.restored == 10 and bench.inventory.tally.rehomed == 10
        moved = [one for one in bench.books.stored[10:]]
        assert len({one.fragment for one in moved}) == 10, "nothing is moved twice"

    run(main, 7)


def test_moves_wait_for_operators_and_new_failures_but_not_for_what_cannot_be_helped() -> None:
    async def main() -> None:
        bench = Bench(8, missing=0)
        hopeless, failing, whole = bench.blobs[0], bench.blobs[1], bench.blobs[2:]
        for blob in whole:
            misplace(bench, blob)
        for shard in (0, 1):
            lose(bench, hopeless, shard)
        bench.dispatcher.rebalance_paused = True
        await bench.work(3)
        assert not bench.executor.done
        bench.dispatcher.rebalance_paused = False
        lose(bench, failing, 2)
        bench.executor.broken = {failing.id}
        await bench.work(1)
        assert "rebalance" not in bench.books.kinds, "what just failed may succeed at once"
        await bench.work(30)
        assert len(bench.dispatcher.failures) == 1 and bench.books.kinds == ["rebalance"] * len(whole)
        assert bench.dispatcher.parked()[0] == {Parked.HOPELESS: 1}

    run(main, 8)


def test_moves_wait_for_a_node_that_may_come_back() -> None:
    async def main() -> None:
        bench = Bench(8, missing=0, members=(*NODES, NodeId("e" * 16)))
        gone = owners_of(bench, bench.blobs[0])[1]
        bench.live(*(node for node in bench.members if node != gone))
        bench.judge()
        bench.silence = Silence(frozenset([gone]), frozenset([gone]))
        misplace(bench, next(blob for blob in bench.blobs if gone not in owners_of(bench, blob)))
        await bench.work(5)
        assert bench.dispatcher.parked()[0][Parked.WAITING] and "rebalance" not in bench.books.kinds
        bench.silence = Silence()  # it was given up, or an operator does not wait for it
        await bench.work(20)
        assert bench.books.kinds[-1] == "rebalance" and bench.debt == 0

    run(main, 10)


def test_an_operator_can_have_everything_tried_at_once_and_one_blob_first() -> None:
    async def main() -> None:
        bench = Bench(12)
        bench.executor.broken = {blob.id for blob in bench.blobs}
        await bench.work(40)
        bench.executor.broken = set()
        bench.executor.tried.clear()
        assert len(bench.dispatcher.failures) == 12
        bench.inventory.agenda.clear()  # what the cancelled jobs had begun is there again
        bench.dispatcher.hurry(frozenset([bench.blobs[7].id]))
        begin = asyncio.get_running_loop().time()
        await bench.work(2)
        assert bench.executor.tried[0] == (begin, bench.blobs[7].id)
        assert bench.debt == 0 and not bench.dispatcher.failures

    run(main, 9)

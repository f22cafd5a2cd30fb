"""The survey: what it counts, what it costs, and that it raises no false alarm."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from objstore.cluster.directory import Directory
from objstore.engine.peers import Peers
from objstore.model.errors import Unreachable
from objstore.model.ids import NodeId
from objstore.model.records import Space
from objstore.ports import Buffer
from objstore.repair import surveyor
from objstore.repair.reading import read_record
from objstore.repair.record import Record
from objstore.repair.surveyor import Surveyor
from objstore.repair.tally import Harm
from objstore.wire.messages import FragDelete, RegDigests, RegPull, RegPulled, RegRead, RegScan, Reply, Request
from tests.sim.cluster import SimClock, SimCluster
from tests.sim.loop import run
from tests.sim.network import SimTransport
from tests.unit.repair.rig import MappedCluster, body, machine_of


class Counted:
    """Calls to the nodes, counted by kind."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self.is_up = peers.is_up
        self.count: Counter[str] = Counter()
        self.instead: Callable[[NodeId, Request], Reply | None] = lambda node, request: None  # may raise, too

    async def call(
        self, node: NodeId, request: Request, payload: Buffer = b"", *, timeout_s: float = 4.0
    ) -> tuple[Reply, bytes | memoryview]:
        self.count[type(request).__name__] += 1
        if (answer := self.instead(node, request)) is not None:
            return answer, b""
        return await self._peers.call(node, request, payload, timeout_s=timeout_s)


class Looker:
    def __init__(self, sim: SimCluster) -> None:
        clock = SimClock(sim.loop)
        self.directory = Directory(sim.coordinator("survey"), clock)
        self.directory.start()
        self.calls = Counted(Peers(self.directory, SimTransport(sim.network, "survey"), clock))
        self.surveyor = Surveyor(self.calls, clock, sim.code)
        self.inventory = self.surveyor.inventory

    async def look(self, times: int = 1) -> None:
        await self.directory.wait_ready(10)
        assert self.directory.topology is not None
        for _ in range(times):
            await self.directory.refresh()
            await self.surveyor.look(self.directory.topology)
            await asyncio.sleep(0.5)


async def put(sim: SimCluster, key: str, size: int) -> None:
    await sim.engines[0].put_object("b", key, body(sim.random.randbytes(size)), size, {})


def test_a_quiet_look_asks_for_counters_only_and_a_change_re_reads_only_its_partitions() -> None:
    async def main() -> None:
        async with MappedCluster(21) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(20):
                await put(sim, f"k{i}", 50_000)
            looker = Looker(sim)
            await looker.look(3)
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 20]
            looker.calls.count.clear()
            await looker.look(3)
            assert looker.calls.count == {"NodeStats": 3 * len(looker.surveyor.stats)}, "once each"
            await put(sim, "one more", 50_000)
            looker.calls.count.clear()
            await looker.look(3)
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 21]
            assert looker.calls.count["FragList"] == 6, "one partition, on the nodes that took a shard"
            assert looker.calls.count["RegPull"] + looker.calls.count["RegRead"] + looker.calls.count["RegScan"] <= 3

    run(main, 21)


@pytest.mark.parametrize("answering", [0, 2])
def test_what_a_first_look_could_not_ask_is_read_by_the_next_and_not_taken_for_nothing(answering: int) -> None:
    async def main() -> None:
        async with MappedCluster(25) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(20):
                await put(sim, f"k{i}", 50_000)
            looker = Looker(sim)
            await looker.directory.wait_ready(10)
            heard = sorted(looker.directory.nodes)[:answering]

            def deaf(node: NodeId, request: Request) -> None:
                if node not in heard:
                    raise Unreachable("it is not connected yet")

            looker.calls.instead = deaf
            await looker.look()
            looker.calls.instead = lambda node, request: None
            await looker.look()
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 20]

    run(main, 25)


def test_under_load_no_object_ever_looks_damaged() -> None:
    async def main() -> None:
        async with MappedCluster(22) as sim:
            await sim.engines[0].create_bucket("b")
            looker = Looker(sim)
            done = False

            async def load(name: str) -> None:
                for i in range(25):
                    await put(sim, f"{name}{i % 10}", (100, 60_000)[i % 2])
                    await asyncio.sleep(sim.random.uniform(0, 0.6))

            async def watch() -> None:
                while not done:
                    await looker.look()
                    assert sum(looker.inventory.tally.histogram[:6]) == 0, looker.inventory.tally.histogram

            watching = asyncio.create_task(watch())
            await asyncio.gather(load("x"), load("y"))
            await asyncio.sleep(8)
            done = True
            await watching
            assert looker.inventory.tally.histogram[6] == 20

    run(main, 22)


def test_a_node_that_does_not_answer_holds_nothing_at_once_and_everything_when_it_is_back() -> None:
    async def main() -> None:
        async with MappedCluster(23) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(12):
                await put(sim, f"k{i}", 50_000)
            looker = Looker(sim)
            await looker.look(2)
            machine = sim.machines[0]
            assert machine.service is not None
            node = machine.service.id
            held = looker.inventory.fragments_on(node)
            assert held > 0
            sim.pause(machine)
            await looker.look()
            assert looker.inventory.fragments_on(node) == 0
            assert looker.inventory.missing_on(node) == held
            assert looker.inventory.tally.histogram[5] >= held
            sim.resume(machine)
            await asyncio.sleep(5)
            await looker.look(2)
            assert looker.inventory.fragments_on(node) == held and looker.inventory.missing_on(node) == 0
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 12]

    run(main, 23)


def test_lost_shards_and_unreadable_objects_are_counted_from_what_is_there() -> None:
    async def main() -> None:
        async with MappedCluster(24) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(4):
                await put(sim, f"k{i}", 50_000)
            looker = Looker(sim)
            await looker.look(2)
            topology = looker.directory.topology
            assert topology is not None
            for i, lost in enumerate((1, 2, 3)):
                blob = (await sim.engines[0].head_object("b", f"k{i}")).blobs[0]
                partition = topology.partition_of_blob(blob.id, 0)
                for shard in range(lost):
                    service = machine_of(sim, topology.data_owners(partition)[shard]).service
                    assert service is not None
                    fragment = blob.id + bytes(4) + bytes((shard,))
                    await service.handle(FragDelete(partition, fragment), b"")
            await looker.look(3)
            assert looker.inventory.tally.histogram == [0, 0, 0, 1, 1, 1, 1]
            assert looker.inventory.tally.count(Harm.DAMAGED) == 3

    run(main, 24)


def test_deleted_objects_and_open_parts_are_no_objects_but_parts_are_repaired() -> None:
    async def main() -> None:
        async with MappedCluster(25) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            await put(sim, "gone", 50_000)
            await engine.delete_object("b", "gone")
            upload = await engine.create_upload("b", "big", {})
            await engine.put_part("b", "big", upload, 1, body(bytes(60_000)), 60_000)
            looker = Looker(sim)
            await looker.look(2)
            inventory = looker.inventory
            assert sum(inventory.tally.histogram) == 0
            assert len(list(inventory.listed())) == 2
            topology = looker.directory.topology
            assert topology is not None
            part = next(segment for segment in inventory.listed() if inventory.blob(segment) is not None)
            assert sum(inventory.blob(segment) is None for segment in inventory.listed()) == 1, "garbage"
            partition = topology.partition_of_blob(part[:16], 0)
            service = machine_of(sim, topology.data_owners(partition)[0]).service
            assert service is not None
            await service.handle(FragDelete(partition, part + b"\x00"), b"")
            await looker.look(2)
            assert list(inventory.tally.parts.values()) == [Harm.DAMAGED] and sum(inventory.tally.objects) == 0
            assert len(inventory.agenda) == 1

    run(main, 25)


def test_an_answer_lost_on_the_way_is_asked_for_again() -> None:
    async def main() -> None:
        async with MappedCluster(26) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(8):
                await put(sim, f"k{i}", 100)
            looker = Looker(sim)
            lost: list[NodeId] = []

            def lose_one(node: NodeId, request: Request) -> Reply | None:
                if isinstance(request, RegDigests) and not lost:
                    lost.append(node)
                    raise Unreachable("lost on the way")
                return None

            looker.calls.instead = lose_one
            await looker.look()
            assert lost and sum(looker.inventory.tally.histogram[:6]) > 0
            await looker.look(2)
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 8]

    run(main, 26)


def test_parts_of_an_upload_that_is_over_refer_to_nothing_also_when_a_later_read_of_their_partition_fails() -> None:
    async def main() -> None:
        async with MappedCluster(28) as sim:
            engine = sim.engines[0]
            buckets = sorted([await engine.create_bucket("b"), await engine.create_bucket("c")], key=lambda one: one.id)
            first, last = (bucket.name for bucket in buckets)
            upload = await engine.create_upload(first, "big", {})
            await engine.put_part(first, "big", upload, 1, body(bytes(60_000)), 60_000)
            await engine.abort_upload(first, "big", upload)
            for i in range(200):
                await engine.put_object(last, f"k{i}", body(b"x"), 1, {})
            looker = Looker(sim)
            seen: list[Space] = []
            failed: list[int] = []

            def fail_after_the_part(node: NodeId, request: Request) -> Reply | None:
                if isinstance(request, RegRead | RegScan):
                    bucket = request.key[:16] if isinstance(request, RegRead) else request.bucket
                    seen.append(Space(request.key[16] if isinstance(request, RegRead) else request.space))
                    if bucket == buckets[1].id:
                        failed.append(request.partition)
                        raise Unreachable("lost on the way")
                return None

            looker.calls.instead = fail_after_the_part
            await looker.look()
            assert Space.PART in seen
            [part] = [key for table in looker.inventory.records.values() for key in table if key[16] == Space.PART]
            partition = next(p for p, table in looker.inventory.records.items() if part in table)
            assert partition in failed
            looker.calls.instead = lambda node, request: None
            await looker.look(2)
            [segment] = looker.inventory.listed()
            assert looker.inventory.blob(segment) is None, "garbage"

    run(main, 28)


def test_heartbeats_get_their_turn_while_many_objects_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million registers once took the loop for seconds at a time: longer than leadership lasts without a beat."""
    loaded: list[int] = [0]

    def count(key: bytes, ballot: bytes, state: bytes) -> Record:
        if not loaded[-1]:
            asyncio.get_running_loop().call_soon(loaded.append, 0)  # the next turn of the loop
        loaded[-1] += 1
        return read_record(key, ballot, state)

    async def main() -> None:
        async with MappedCluster(29) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(600):
                await put(sim, f"k{i}", 1)
            looker = Looker(sim)
            await looker.look()
            assert sum(loaded) > 600
            assert max(loaded) <= surveyor.WIDTH * surveyor.LOADED_AT_ONCE

    monkeypatch.setattr(surveyor, "read_record", count)
    monkeypatch.setattr(surveyor, "LOADED_AT_ONCE", 5)
    run(main, 29)


def test_a_node_that_has_moved_on_to_a_newer_layout_makes_no_object_vanish() -> None:
    """Between its digest and its pull it dropped the partition; the same digest is seen again later."""

    async def main() -> None:
        async with MappedCluster(27) as sim:
            await sim.engines[0].create_bucket("b")
            for i in range(8):
                await put(sim, f"k{i}", 100)
            looker = Looker(sim)

            def dropped(node: NodeId, request: Request) -> Reply | None:
                return RegPulled([], b"", [], [], [], False, fence=99) if isinstance(request, RegPull) else None

            looker.calls.instead = dropped
            await looker.look(2)
            assert sum(looker.inventory.tally.histogram) == 0, "nothing could be read yet"
            looker.calls.instead = lambda node, request: None
            await looker.look(2)
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 8]
            for i in range(8):
                await put(sim, f"k{i}", 101)  # every partition has changed and must be read again
            looker.calls.instead = dropped
            await looker.look(2)
            assert sum(looker.inventory.tally.histogram) == 8
            looker.calls.instead = lambda node, request: None
            await looker.look(2)
            assert looker.inventory.tally.histogram == [0, 0, 0, 0, 0, 0, 8]

    run(main, 27)

"""The record journal tells what the rows tell: after every history, power cut, full disk and compaction."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from objstore.adapters.disk import LocalDisk
from objstore.adapters.kv import LmdbKV
from objstore.model.clock import ZERO
from objstore.model.errors import InsufficientStorage, ObjstoreError, Overloaded
from objstore.model.limits import KIB, MIB
from objstore.model.records import Register, encode
from objstore.model.scrubbing import ScrubControl, ScrubFound
from objstore.node import compaction, index, journal
from objstore.node import register_rows as rows
from objstore.node.identity import FILE
from objstore.node.identity import TABLE as IDENTITY
from objstore.node.journal import FOLDER, TABLE, files_in, path_of
from objstore.node.lost import Life
from objstore.node.service import TABLES, NodeService
from objstore.ports import Buffer
from objstore.wire.messages import (
    Ok,
    RegAccept,
    RegAccepted,
    RegDrop,
    RegFence,
    RegForget,
    RegInstall,
    RegPrepare,
    RegRead,
    RegRefused,
    RegStale,
    RegState,
)
from tests.sim.disk import SimDisk, SimFile
from tests.sim.kv import SimKV
from tests.sim.loop import run as run_in_virtual_time
from tests.unit.node.rig import BITS, CLUSTER, Rig, ask, ballot, level, run, with_node
from tests.unit.node.test_registers import key

EMPTY = encode(Register(b""))
NAMES = [b"a", b"b", b"c" * 600, b"c" * 600 + b"d", b"e"]
FULL = OSError(errno.ENOSPC, "full")
Told = dict[tuple[int, bytes], tuple[bytes, bytes, bytes, bytes]]  # partition, key -> ballot, listing, state, data


def told_by_rows(rig: Rig) -> Told:
    found: Told = {}
    for row in rows.all_rows(rig.rows):
        if row.is_written:
            held = rows.load(rig.rows, row.place)
            partition = int.from_bytes(row.place[:2], "big")
            found[partition, row.place[2:]] = held.acceptor.accepted.pack(), *held[1:]
    return found


def life_of(rig: Rig, node_id: str) -> Life:
    life = Life(node_id, files_in(rig.disk)[node_id], 1 << BITS)
    life.replay(rig.disk, CLUSTER)
    return life


def told_by_journal(rig: Rig, life: Life) -> Told:
    values = [life.read(rig.disk, place) for places in life.places.values() for place in places.values()]
    return {(value.partition, value.key): value[3:] for value in values}


def check(rig: Rig, node: NodeService, *, damaged: int = 0) -> None:
    """Journal and rows agree in everything."""
    if node.id not in files_in(rig.disk):
        assert not told_by_rows(rig) and not list(rows.fences(rig.rows))
        return
    life = life_of(rig, node.id)
    assert told_by_journal(rig, life) == told_by_rows(rig)
    assert life.damage.places == damaged
    for partition, tag in rows.fences(rig.rows):
        assert life.tags[partition] >= tag
    floors = {partition: floor.pack() for partition, floor in rows.floors(rig.rows)}
    assert {partition: floor for partition, floor in life.floors.items() if floor != ZERO.pack()} == floors


class History:
    """Random requests to a node, a few at a time. `acked`: what must be there, as far as it was answered."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.time = 0
        self.acked: dict[tuple[int, bytes], int] = {}  # at least this ballot, unless dropped or forgotten since
        self.unsure: set[tuple[int, bytes]] = set()  # a drop or a forget was sent
        self.tags = [10] * 4
        self.floor = 0

    async def some(self, node: NodeService, count: int) -> None:
        """Errors are answers too."""
        ways = [self._accept] * 6 + [self._prepare, self._install, self._fence, self._drop, self._forget]
        batch = [self.random.choice(ways)(node) for _ in range(count)]
        for result in await asyncio.gather(*batch, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, ObjstoreError):
                raise result

    def _next(self) -> tuple[int, bytes, int]:
        self.time += 1
        return self.random.randrange(4), key(self.random.choice(NAMES)), self.time

    def _value(self, time: int) -> tuple[bytes, bytes, bytes]:
        if time % 4 == 0:
            return b"", EMPTY, b""
        return b"l%d" % time, b"s" * self.random.choice((1, 2000)), b"%d" % time * self.random.choice((0, 1, 500))

    async def _accept(self, node: NodeService) -> None:
        partition, name, time = self._next()
        listing, state, data = self._value(time)
        request = RegAccept(partition, self.tags[partition], name, ballot(time), listing, state)
        if await ask(node, request, data) == RegAccepted():
            self.acked[partition, name] = max(time, self.acked.get((partition, name), 0))

    async def _prepare(self, node: NodeService) -> None:
        partition, name, time = self._next()
        await ask(node, RegPrepare(partition, self.tags[partition], name, ballot(time)))

    async def _install(self, node: NodeService) -> None:
        partition, _, time = self._next()
        names = sorted(map(key, self.random.sample(NAMES, 3)))
        made = [self._value(time) for _ in names]
        listings, states, data = (list(column) for column in zip(*made, strict=True))
        lengths = [len(one) for one in data]
        tag = self.tags[partition]
        await ask(
            node,
            RegInstall(partition, tag, names, ballot(time) * 3, listings, states, lengths),
            b"".join(data),
        )

    async def _fence(self, node: NodeService) -> None:
        partition = self.random.randrange(4)
        self.tags[partition] += 2
        await ask(node, RegFence([partition], self.tags[partition]))

    async def _drop(self, node: NodeService) -> None:
        if self.random.random() < 0.5:
            return
        partition = self.random.randrange(4)
        self.tags[partition] += 2
        self.unsure.update((partition, key(name)) for name in NAMES)
        await ask(node, RegDrop([partition], self.tags[partition]))

    async def _forget(self, node: NodeService) -> None:
        partition, name, time = self._next()
        self.unsure.add((partition, name))
        reply = await ask(node, RegRead(partition, self.tags[partition], name))
        if isinstance(reply, RegState):
            floor = ballot(time - self.random.randrange(30)) if time > 30 else ballot(1)
            keys, ballots = self.random.choice((([], b""), ([name], reply.accepted)))
            await ask(node, RegForget(partition, self.tags[partition], floor, keys, ballots))

    def check(self, told: Told) -> None:
        for place, time in self.acked.items():
            if place not in self.unsure:
                assert place in told, "an acknowledged value is not in the journal"
                assert int.from_bytes(told[place][0][:8], "big") >= time


@pytest.mark.parametrize("seed", range(25))
def test_the_journal_replays_to_the_rows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny files, so that they rotate and are compacted all the time."""
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
    monkeypatch.setattr(compaction, "STEP_BYTES", 2 * KIB)

    async def main() -> None:
        rig, history = Rig(), History(seed)
        node = await rig.open(record_file_bytes=8 * KIB)
        for _ in range(60):
            await history.some(node, history.random.choice((1, 5, 20)))
            if history.random.random() < 0.5:
                await level(node)
                check(rig, node)
        await level(node)
        first = files_in(rig.disk)[node.id][0]
        assert first > 1, "nothing was compacted"
        history.check(told_by_rows(rig))
        await node.close()
        again = await rig.open(record_file_bytes=8 * KIB)
        check(rig, again)
        await again.close()

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_it_does_so_on_a_real_disk_with_real_threads(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
    monkeypatch.setattr(compaction, "STEP_BYTES", 2 * KIB)

    async def main() -> None:
        kv = LmdbKV(tmp_path / "index", TABLES)
        rig, history = Rig(LocalDisk(tmp_path), kv), History(seed)
        node = await rig.open(record_file_bytes=8 * KIB)
        for _ in range(40):
            await history.some(node, history.random.choice((1, 20)))
        await node.close()
        check(rig, node)
        history.check(told_by_rows(rig))
        assert files_in(rig.disk)[node.id][0] > 1, "nothing was compacted"
        again = await rig.open()
        check(rig, again)
        await again.close()
        kv.close()

    asyncio.run(main())


class _CutFile(SimFile):
    def sync(self) -> None:
        assert isinstance(self._disk, CutDisk)
        self._disk.event(super().sync)


class CutDisk(SimDisk):
    """The power fails at the n-th time that something becomes durable, right before or right after."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1
        self.after = False

    def open(self, path: str, *, create: bool = False) -> SimFile:
        found = super().open(path, create=create)
        return _CutFile(self, found._inode)

    def sync_dir(self, path: str) -> None:
        self.event(lambda: super(CutDisk, self).sync_dir(path))

    def event(self, durable: Callable[[], None]) -> None:
        if self.left == 0:
            if self.after:
                durable()
                self.after = False
            raise OSError(errno.EIO, "the power is gone")
        self.left -= 1
        durable()


class CutKV(SimKV):
    def __init__(self, disk: CutDisk) -> None:
        super().__init__(TABLES)
        self._disk = disk

    def commit(self, writes: object) -> None:
        self._disk.event(lambda: super(CutKV, self).commit(writes))  # type: ignore[arg-type]


def cut_rig() -> tuple[Rig, CutDisk]:
    disk = CutDisk()
    rig = Rig(disk, CutKV(disk))
    return rig, disk


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("event", range(1, 90, 2))
def test_a_power_cut_at_any_sync_loses_no_answered_value(
    event: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
    monkeypatch.setattr(compaction, "STEP_BYTES", 2 * KIB)

    async def main() -> None:
        rig, disk = cut_rig()
        history, random = History(event), Random(event)
        node = await rig.open(record_file_bytes=6 * KIB)
        for _ in range(event % 20):
            await history.some(node, 10)
        disk.left, disk.after = event, after
        while not rig.fatal:
            await history.some(node, 5)
        await node.close()
        disk.left = -1
        disk.crash(random)
        node_id = node.id
        again = await rig.open(record_file_bytes=6 * KIB)
        assert again.id == node_id
        check(rig, again)
        history.check(told_by_rows(rig))
        await history.some(again, 20)
        await level(again)
        check(rig, again)
        await again.close()

    run(main())


@pytest.mark.parametrize("event", range(2, 60, 3))
def test_a_power_cut_that_takes_the_index_along_loses_no_answered_value(event: int) -> None:
    async def main() -> None:
        rig, disk = cut_rig()
        history, random = History(event), Random(event)
        node = await rig.open(record_file_bytes=16 * KIB)
        await history.some(node, 10)
        disk.left, disk.after = event, bool(event % 2)
        while not rig.fatal:
            await history.some(node, 5)
        await node.close()
        disk.left = -1
        disk.crash(random)
        rig.kv = rig.sim_kv = SimKV(TABLES)
        again = await rig.open()
        assert again.id != node.id and again.has_lost_records
        history.check(told_by_journal(rig, life_of(rig, node.id)))
        await again.close()

    run(main())


class FullDisk(SimDisk):
    """Some bytes are left. Like a file system, it takes what fits of a write before it says no."""

    left: int | None = None

    def open(self, path: str, *, create: bool = False) -> SimFile:
        return _FullFile(self, super().open(path, create=create)._inode)


class _FullFile(SimFile):
    def pwrite(self, data: Buffer, offset: int) -> None:
        disk = self._disk
        assert isinstance(disk, FullDisk)
        grows = max(0, offset + len(data) - self.size())
        if disk.left is None or grows <= disk.left:
            if disk.left is not None:
                disk.left -= grows
            super().pwrite(data, offset)
            return
        fits = len(data) - grows + disk.left
        disk.left = 0
        super().pwrite(bytes(data)[:fits], offset)
        raise FULL


@pytest.mark.parametrize("newest", [False, True])
def test_the_scrub_finds_rot_in_the_journal_and_has_it_written_again(newest: bool) -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open(record_file_bytes=4 * KIB, scrub_rate=MIB)
        for number in range(60):
            await ask(node, RegAccept(number % 4, 2, key(b"%04d" % number), ballot(1), b"l", b"s"), b"d" * 300)
        await asyncio.sleep(1)
        numbers = files_in(rig.disk)[node.id]
        rig.sim_disk.flip(path_of(node.id, numbers[-1] if newest else numbers[1]), 700)
        node.steer_scrub(ScrubControl(start=1))
        while node.report().scrub.obeyed != 1:
            rig.clock.now += 1
            await asyncio.sleep(1)
        assert node.report().scrub.found_ever == ScrubFound(records=1)
        await asyncio.sleep(10)
        await level(node)
        check(rig, node)
        node.steer_scrub(ScrubControl(start=2))
        while node.report().scrub.obeyed != 2:
            rig.clock.now += 1
            await asyncio.sleep(1)
        assert node.report().scrub.found_ever == ScrubFound(records=1), "and finds nothing more"
        await node.close()

    run_in_virtual_time(main, 1)


@pytest.mark.parametrize("left", [0, 1, 100, 300, 1000, 2500])
@pytest.mark.parametrize("file_bytes", [1, 4 * KIB, MIB])
def test_a_batch_that_does_not_fit_leaves_nothing_behind(
    left: int, file_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ALLOCATE_BYTES", 0)  # else there is room

    async def main() -> None:
        disk = FullDisk()
        rig = Rig(disk)
        node = await rig.open(record_file_bytes=file_bytes)
        for time in (1, 2):
            await ask(node, RegAccept(1, 2, key(b"old"), ballot(time), b"l", b"s"), bytes(500))
        await level(node)
        before = told_by_rows(rig)
        disk.left = left
        requests = [RegAccept(1, 2, key(b"%d" % i), ballot(9), b"l", b"s") for i in range(10)]
        results = await asyncio.gather(*[ask(node, one, b"d" * 300) for one in requests], return_exceptions=True)
        assert all(isinstance(result, InsufficientStorage) for result in results), "one batch, one fate"
        await level(node)
        assert told_by_rows(rig) == before and not rig.fatal
        life = life_of(rig, node.id)
        assert told_by_journal(rig, life) == before and life.damage.places == 0
        disk.left = None
        for one in requests[:3]:
            assert await ask(node, one, b"e") == RegAccepted()
        await level(node)
        check(rig, node)
        await node.close()
        disk.crash(Random(left))
        again = await rig.open(record_file_bytes=file_bytes)
        check(rig, again)
        await again.close()

    run(main())


@pytest.mark.parametrize("file_bytes", [1, MIB])
@pytest.mark.parametrize(("error", "answer"), [(errno.ENOSPC, InsufficientStorage), (errno.ENOMEM, Overloaded)])
def test_a_batch_that_the_index_did_not_take_is_cut_off_the_journal(
    file_bytes: int, error: int, answer: type[ObjstoreError]
) -> None:
    """Or a node that loses its index later would report a value that it has denied to have accepted."""

    async def test(rig: Rig, node: NodeService) -> None:
        await ask(node, RegAccept(1, 2, key(b"a"), ballot(1), b"l", b"s"), b"data")
        rig.sim_kv.fail_commit = OSError(error, "full")
        fence = asyncio.ensure_future(ask(node, RegFence([2], 2)))  # whose row cannot wait
        await asyncio.sleep(0)
        with pytest.raises(answer):
            await ask(node, RegAccept(1, 2, key(b"b"), ballot(1), b"l", b"s"), b"denied" * 1000)
        with pytest.raises(answer):
            await fence
        rig.sim_kv.fail_commit = None
        await level(node)
        life = life_of(rig, node.id)
        assert told_by_journal(rig, life) == told_by_rows(rig)
        assert life.damage.places == 0
        assert b"denied" not in b"".join(rig.disk.read_file(path_of(node.id, n)) for n in life.numbers)
        await ask(node, RegAccept(1, 2, key(b"c"), ballot(1), b"l", b"s"), b"data")
        await level(node)
        check(rig, node)

    with_node(test, record_file_bytes=file_bytes)


def test_a_journal_that_cannot_be_cut_ends_the_node() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        await ask(node, RegAccept(1, 2, key(b"a"), ballot(1), b"l", b"s"), b"data")
        rig.sim_disk.fail_sync = FULL  # of the append, and then of the zeros over it
        with pytest.raises(ObjstoreError):
            await ask(node, RegAccept(1, 2, key(b"b"), ballot(1), b"l", b"s"), b"data")
        assert rig.fatal
        with pytest.raises(ObjstoreError):
            await ask(node, RegRead(1, 2, key(b"a")))

    with_node(test)


async def _filled(rig: Rig, count: int = 60) -> tuple[NodeService, Told]:
    node = await rig.open(record_file_bytes=4 * KIB)
    for i in range(count):
        await ask(node, RegAccept(i % 4, 2, key(b"%04d" % i), ballot(i + 1), b"l", b"s"), b"d" * 200)
    await ask(node, RegFence([1], 7))
    return node, told_by_rows(rig)


async def _until(met: Callable[[], bool]) -> None:
    """Let everybody else go on; no time passes."""
    for _ in range(100_000):
        if met():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never comes")


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("harm", ["gone", "short", "header"])
def test_a_journal_that_lost_a_file_is_written_again_from_the_index(
    which: int, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)

    async def main() -> None:
        rig = Rig()
        node, told = await _filled(rig)
        await node.close()
        path = path_of(node.id, files_in(rig.disk)[node.id][which])
        raw = rig.disk.read_file(path)
        rig.disk.unlink(path)
        if harm == "short":
            rig.disk.write_file(path, raw[: len(raw.rstrip(b"\0")) // 2])
        elif harm == "header":
            rig.disk.write_file(path, bytes(len(raw)))
        again = await rig.open(record_file_bytes=4 * KIB)
        noticed_at_start = harm == "gone" or which == -1
        if not noticed_at_start:  # when it is its turn to be compacted
            times = iter(range(1000, 2000))
            while rig.kv.get(TABLE, b"incomplete") is None:
                request = RegAccept(3, 2, key(b"again"), ballot(next(times)), b"l", b"s")
                await ask(again, request, b"d" * 2000)
            await level(again)
            told = told_by_rows(rig)
        begin = rig.kv.get(TABLE, b"first")
        await _until(lambda: rig.kv.get(TABLE, b"incomplete") is None)
        await _until(lambda: path_of(again.id, files_in(rig.disk)[again.id][0]) > path)
        assert begin != rig.kv.get(TABLE, b"first")
        assert told_by_rows(rig) == told
        await again.close()
        check(rig, again)
        last = await rig.open()
        check(rig, last)
        assert rig.kv.get(TABLE, b"incomplete") is None
        await last.close()

    run(main())


def test_a_full_disk_stops_compaction_and_it_goes_on_later_without_writing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
    monkeypatch.setattr(compaction, "STEP_BYTES", KIB)

    async def main() -> None:
        disk = FullDisk()
        rig = Rig(disk)
        node, _ = await _filled(rig)
        disk.left = 3000
        names = [key(b"%04d" % i) for i in range(40)]
        for _ in range(30):
            for i, name in enumerate(names):  # tombstones: most of the journal counts no more
                request = RegAccept(i % 4, 8, name, ballot(5000), b"", EMPTY)
                try:
                    await ask(node, request)
                except InsufficientStorage:
                    break
        assert sum(len(rig.disk.read_file(f"{FOLDER}/{name}")) for name in rig.disk.list_dir(FOLDER)) < 40 * KIB
        disk.left = None
        for i, name in enumerate(names):
            await ask(node, RegAccept(i % 4, 8, name, ballot(6000), b"", EMPTY))
        await _until(lambda: files_in(rig.disk)[node.id][0] > 1)
        await level(node)
        check(rig, node)
        await node.close()

    run(main())


@pytest.mark.parametrize(("free", "grows"), [(4 * MIB, MIB), (2 * MIB + 50_000, 50_000), (MIB, 0)])
def test_what_is_written_ahead_leaves_the_reserve_to_those_who_give_space_back(free: int, grows: int) -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        rig.sim_disk.capacity = rig.sim_disk.used + free
        before = rig.sim_disk.used
        assert isinstance(await ask(node, RegPrepare(1, 2, key(b"a"), ballot(1))), RegState)
        assert abs(rig.sim_disk.used - before - grows) <= 2 * journal.BLOCK_BYTES

    with_node(test, reserve_bytes=2 * MIB)


def test_the_journal_counts_in_the_space_of_the_node() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        before = node.stats().free_bytes
        for i in range(20):
            await ask(node, RegAccept(1, 2, key(b"%d" % i), ballot(1), b"l", b"s"), bytes(30_000))
        assert before - node.stats().free_bytes >= 20 * 30_000

    with_node(test, capacity_bytes=64 * MIB)


def test_a_refused_accept_is_not_recorded_and_a_promise_is_of_no_use_to_another_id() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        await ask(node, RegPrepare(1, 2, key(b"a"), ballot(9)))
        assert not life_of(rig, node.id).places
        assert isinstance(await ask(node, RegAccept(1, 2, key(b"a"), ballot(5), b"l", b"s"), b"x"), RegRefused)
        await ask(node, RegFence([1], 8))
        assert isinstance(await ask(node, RegAccept(1, 2, key(b"a"), ballot(15), b"l", b"s"), b"x"), RegStale)
        life = life_of(rig, node.id)
        assert not life.places.get(1) and life.tags[1] == 8

    with_node(test)


def test_the_identity_is_not_of_the_journal() -> None:
    """Without its file, a node is still who it was; its journal goes on."""

    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        assert await ask(node, RegAccept(1, 2, key(b"a"), ballot(1), b"l", b"s"), b"x") == RegAccepted()
        await node.close()
        rig.disk.unlink(FILE)
        again = await rig.open()
        assert again.id == node.id and not again.has_lost_records
        assert await ask(again, RegDrop([1], 4)) == Ok()
        check(rig, again)
        assert rig.kv.get(IDENTITY, b"identity") is not None and list(index.extents(rig.rows)) == []
        await again.close()

    run(main())

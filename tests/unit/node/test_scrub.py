"""The scrub of a node: it finds what rotted without being asked, goes round, does as it is told, and is held up by
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from objstore.model.errors import Overloaded
from objstore.model.manifest import FragmentId
from objstore.model.scrubbing import CYCLE_S, ScrubControl, ScrubFound, ScrubMode, ScrubRound
from objstore.node import index
from objstore.node.scrub import REST_MIN_S, SAVE_S, Scrub, Step, is_due
from objstore.node.scrub_place import FILE, Place, Places
from objstore.node.service import NodeService
from objstore.node.volumes import padded
from objstore.wire.messages import FragDelete, FragPut, FragVerify
from tests.sim.disk import SimDisk
from tests.sim.loop import run
from tests.unit.node.rig import Rig, ask, blob_in, whole

ROOM = 10_000_000


class LoopClock:
    """Wall time, too, is that of the loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return 1_000_000_000_000 + int(self.monotonic() * 1000)


class Shelf:
    """Things of 100 bytes. `bad`: what is found in some; `failing`: what looking at some raises."""

    def __init__(self, count: int) -> None:
        self.names = [b"%06d" % number for number in range(count)]
        self.bad: dict[bytes, ScrubFound] = {}
        self.failing: dict[bytes, Exception] = {}
        self.seen: list[bytes] = []
        self.modes: list[ScrubMode] = []

    def size(self, mode: ScrubMode) -> int:
        return 100 * len(self.names)

    async def step(self, at: bytes, mode: ScrubMode) -> Step | None:
        name = next((name for name in self.names if name > at), None)
        if name is None:
            return None
        self.seen.append(name)
        self.modes.append(mode)
        if name in self.failing:
            raise self.failing[name]
        return Step(name, 100, self.bad.get(name, ScrubFound()))


class Bench:
    def __init__(self, shelves: Sequence[Shelf], rate: int = 10_000, disk: SimDisk | None = None) -> None:
        self.disk = disk or SimDisk()
        self.busy = False
        self.calls = 0
        self.scrub = Scrub(shelves, Places(self.disk), LoopClock(), rate, lambda: self.busy, lambda: self.calls)

    async def __aenter__(self) -> Scrub:
        self._task = asyncio.create_task(self.scrub.run())
        await asyncio.sleep(0)
        return self.scrub

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def test_it_goes_through_all_sources_and_comes_round_after_a_rest() -> None:
    async def main() -> None:
        one, other = Shelf(100), Shelf(50)
        async with Bench([one, other]) as scrub:
            await asyncio.sleep(REST_MIN_S / 2)
            assert one.seen == one.names and other.seen == other.names
            assert scrub.report().state == "idle" and scrub.report().last.bytes == 15_000
            await asyncio.sleep(REST_MIN_S)
            assert one.seen == 2 * one.names and other.seen == 2 * other.names

    run(main, 1)


def test_it_keeps_to_its_rate() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        async with Bench([shelf], rate=1000) as scrub:
            await asyncio.sleep(10.0)
            assert len(shelf.seen) in range(98, 105)
            report = scrub.report()
            assert (report.state, report.done_bytes, report.total_bytes) == ("running", 100 * len(shelf.seen), 100_000)
            assert report.eta_s == pytest.approx(90, abs=2)

    run(main, 2)


def test_a_round_takes_less_than_a_cycle_whatever_rate_was_set() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        shelf.size = lambda mode: 10**15  # type: ignore[method-assign]
        async with Bench([shelf], rate=1) as scrub:
            assert 10**15 / scrub.report().rate < CYCLE_S
            scrub.steer(ScrubControl(rate=5))
            assert 10**15 / scrub.report().rate < CYCLE_S

    run(main, 3)


def test_nothing_ends_it() -> None:
    async def main() -> None:
        shelf = Shelf(5)
        shelf.bad = {shelf.names[1]: ScrubFound(corrupt=1)}
        shelf.failing = {shelf.names[3]: Overloaded("later")}
        async with Bench([shelf]) as scrub:
            await asyncio.sleep(5)
            assert shelf.seen[-1] == shelf.names[3], "what could not be looked at is tried again"
            del shelf.failing[shelf.names[3]]
            await asyncio.sleep(5)
            assert shelf.seen[-1] == shelf.names[4]
            assert scrub.report().last.found == scrub.report().found_ever == ScrubFound(corrupt=1)

    run(main, 4)


@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_goes_on_where_it_was(crash: bool) -> None:
    async def main() -> None:
        disk = SimDisk()
        shelf = Shelf(1000)
        shelf.bad = {shelf.names[3]: ScrubFound(missing=1)}
        async with Bench([shelf], 1000, disk):
            await asyncio.sleep(SAVE_S + 10)
            if crash:
                disk.crash(Random(1))
        before = len(shelf.seen)
        async with Bench([shelf], 1000, disk) as scrub:
            await asyncio.sleep(1)
            first = shelf.names.index(shelf.seen[before])
            assert before - 150 < first <= before if crash else first == before
            assert scrub.report().found == ScrubFound(missing=1)
            await asyncio.sleep(80)
            assert scrub.report().last.found == ScrubFound(missing=1)

    run(main, 5)


@pytest.mark.parametrize("text", [b"", b"{", b'{"format": 9}', b'{"at": "zz"}', b"[]"])
def test_a_place_that_cannot_be_read_costs_one_round(text: bytes) -> None:
    async def main() -> None:
        disk = SimDisk()
        disk.write_file(FILE, text)
        shelf = Shelf(3)
        async with Bench([shelf], disk=disk):
            await asyncio.sleep(1)
            assert shelf.seen == shelf.names

    run(main, 6)


def test_it_pauses_and_goes_on_by_itself() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        async with Bench([shelf], 1000) as scrub:
            await asyncio.sleep(5)
            now_ms = LoopClock().wall_ms()
            scrub.steer(ScrubControl(paused=True, until_ms=now_ms + 20_000))
            await asyncio.sleep(0.1)
            seen = len(shelf.seen)
            await asyncio.sleep(15)
            assert scrub.report().state == "paused" and len(shelf.seen) <= seen + 1
            await asyncio.sleep(10)
            assert scrub.report().state == "running" and len(shelf.seen) > seen + 10
            scrub.steer(ScrubControl(paused=True))
            await asyncio.sleep(100)
            assert scrub.report().state == "paused"

    run(main, 7)


def test_a_round_that_is_asked_for_begins_at_once_and_only_once() -> None:
    async def main() -> None:
        disk, shelf = SimDisk(), Shelf(100)
        async with Bench([shelf], 1000, disk) as scrub:
            await asyncio.sleep(5)
            shelf.seen.clear()
            scrub.steer(ScrubControl(start=77))
            await asyncio.sleep(1)
            assert shelf.seen[0] == shelf.names[0], "from the beginning"
            assert scrub.report().obeyed == 0
            await asyncio.sleep(12)
            assert scrub.report().obeyed == 77 and shelf.seen == shelf.names
        async with Bench([shelf], 1000, disk) as scrub:
            scrub.steer(ScrubControl(start=77))
            await asyncio.sleep(5)
            assert shelf.seen == shelf.names and scrub.report().obeyed == 77
            scrub.steer(ScrubControl(start=78))
            await asyncio.sleep(15)
            assert shelf.seen == 2 * shelf.names and scrub.report().obeyed == 78

    run(main, 8)


def test_a_quick_round_does_not_cost_the_full_one_what_it_has_done() -> None:
    async def main() -> None:
        shelf = Shelf(100)
        async with Bench([shelf], 1000) as scrub:
            await asyncio.sleep(5)
            half = len(shelf.seen)
            scrub.steer(ScrubControl(start=5, mode="quick"))
            await asyncio.sleep(3)
            assert shelf.modes[-1] == "quick"
            await asyncio.sleep(8)
            assert scrub.report().obeyed == 5 and scrub.report().last == ScrubRound(), "no full round is complete yet"
            await asyncio.sleep(8)
            assert shelf.seen[half:] == [*shelf.names, *shelf.names[half:]]
            assert scrub.report().last.bytes == 10_000

    run(main, 9)


def test_a_rate_of_its_own_takes_effect_at_once() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        async with Bench([shelf], 1) as scrub:
            await asyncio.sleep(5)
            assert len(shelf.seen) == 1
            scrub.steer(ScrubControl(rate=1000))
            await asyncio.sleep(10)
            assert len(shelf.seen) > 90

    run(main, 10)


def test_beside_others_it_goes_on_at_a_fraction_of_its_rate() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        bench = Bench([shelf], 16_000)
        bench.busy = True
        async with bench as scrub:
            await asyncio.sleep(20)
            assert 150 <= len(shelf.seen) <= 250, "ten a second"
            bench.busy = False
            await asyncio.sleep(7)
            assert len(shelf.seen) == 1000
            assert scrub.report().state == "idle"

    run(main, 11)


def test_clients_that_call_are_in_its_way_and_those_that_called_before_are_not() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        bench = Bench([shelf], 16_000)

        async def calling() -> None:
            while True:
                bench.calls += 1
                await asyncio.sleep(0.01)

        async with bench:
            clients = asyncio.create_task(calling())
            await asyncio.sleep(20)
            assert 150 <= len(shelf.seen) <= 250
            clients.cancel()
            await asyncio.sleep(7)
            assert len(shelf.seen) == 1000

    run(main, 15)


def test_a_round_that_somebody_waits_for_takes_twice_as_long_beside_others() -> None:
    async def main() -> None:
        shelf = Shelf(100)
        bench = Bench([shelf], 1000)
        bench.busy = True
        async with bench as scrub:
            scrub.steer(ScrubControl(start=3))
            await asyncio.sleep(15)
            assert scrub.report().obeyed != 3
            await asyncio.sleep(8)
            assert scrub.report().obeyed == 3

    run(main, 14)


def test_a_late_round_waits_for_nobody() -> None:
    async def main() -> None:
        disk, shelf = SimDisk(), Shelf(1000)
        bench = Bench([shelf], 100_000, disk)
        bench.busy = True
        old = LoopClock().wall_ms() - int(CYCLE_S * 1000)
        Places(disk).save_now(Place(started_ms=old, since_ms=old))
        async with bench as scrub:
            await asyncio.sleep(2)
            assert scrub.report().state == "idle"

    run(main, 12)


@pytest.mark.parametrize(
    ("finished", "now", "due"),
    [(0, 10**12, True), (10**12, 10**12 + 1000, False), (10**12, 10**12 + 61_000, True), (10**12, 10**12 - 1, True)],
)
def test_when_the_next_round_begins(finished: int, now: int, due: bool) -> None:
    assert is_due(Place(last=ScrubRound(finished - 1000, finished)), now) is due


def test_rounds_that_take_long_have_long_rests_up_to_a_day() -> None:
    hour, day = 3_600_000, 86_400_000
    last = ScrubRound(10**12, 10**12 + hour)
    assert not is_due(Place(last=last), last.finished_ms + 9 * hour)
    assert is_due(Place(last=last), last.finished_ms + 10 * hour)
    last = ScrubRound(10**12, 10**12 + 20 * day)
    assert is_due(Place(last=last), last.finished_ms + day)


# --- on a node -------------------------------------------------------------------------------------------------


class Stock:
    """A node with some fragments."""

    def __init__(self, rig: Rig, node: NodeService, count: int) -> None:
        self.rig, self.node = rig, node
        blob = blob_in(5)
        self.names = [FragmentId(blob, 0, shard).pack() for shard in range(count)]

    async def fill(self) -> None:
        await asyncio.sleep(1)  # the first round, of nothing, is over
        for name in self.names:
            await ask(self.node, FragPut(5, name), whole(FragmentId.unpack(name)))

    def extent(self, number: int) -> index.Extent:
        held = index.find(self.rig.rows, self.names[number])
        assert held is not None
        return held.extent

    async def scrubbed(self, mode: ScrubMode = "full", start: int = 9) -> ScrubFound:
        before = self.node.report().scrub
        self.node.steer_scrub(ScrubControl(start=start, mode=mode, rate=ROOM))
        while self.node.report().scrub.obeyed != start:
            self.rig.clock.now += 1
            await asyncio.sleep(1)
        after = self.node.report().scrub.found_ever
        pairs = zip(_numbers(after), _numbers(before.found_ever), strict=True)
        return ScrubFound(*(late - early for late, early in pairs))


def _numbers(found: ScrubFound) -> tuple[int, int, int, int]:
    return found.corrupt, found.misplaced, found.missing, found.records


def _spoil(stock: Stock, kind: str) -> None:
    disk, extent = stock.rig.sim_disk, stock.extent(1)
    file = disk.open("volumes/00000001.vol")
    if kind == "corrupt":
        disk.flip("volumes/00000001.vol", extent.offset + extent.length - 30)
    elif kind == "misplaced":
        other = stock.extent(2)
        file.pwrite(file.pread(extent.length, other.offset), extent.offset)
    elif kind == "missing":
        file.punch(extent.offset, padded(extent.length))


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("none", ScrubFound()),
        ("corrupt", ScrubFound(corrupt=1)),
        ("misplaced", ScrubFound(misplaced=1)),
        ("missing", ScrubFound(missing=1)),
    ],
)
@pytest.mark.parametrize("mode", ["full", "quick"])
def test_each_kind_of_damage_is_found_and_nothing_else(kind: str, found: ScrubFound, mode: ScrubMode) -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open(scrub_rate=1 << 20)
        stock = Stock(rig, node, 3)
        await stock.fill()
        _spoil(stock, kind)
        unseen = mode == "quick" and kind == "corrupt"  # a quick round reads headers
        expected = ScrubFound() if unseen else found
        assert await stock.scrubbed(mode) == expected
        left = index.find(rig.rows, stock.names[1])
        assert (left is None) == (expected.total == 1)
        assert node.stats().fragments == 3 - expected.total
        assert node.report().damaged == expected.total
        assert rig.sim_disk.uncached > 0, "it asked for what is on the medium"
        await node.close()

    run(main, 20)


def test_damage_counts_until_the_fragment_is_made_anew_or_not_needed_any_more() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open(scrub_rate=1 << 20)
        stock = Stock(rig, node, 3)
        await stock.fill()
        for number in (0, 1):
            rig.sim_disk.flip("volumes/00000001.vol", stock.extent(number).offset + 5000)
        assert (await stock.scrubbed()).corrupt == 2
        assert node.report().damaged == 2 and node.report().damaged_ms == rig.clock.wall_ms()
        await node.close()
        node = stock.node = await rig.open(scrub_rate=1 << 20)
        assert node.report().damaged == 2, "a restart forgets nothing"
        await ask(node, FragPut(5, stock.names[0]), whole(FragmentId.unpack(stock.names[0])))
        assert node.report().damaged == 1
        await ask(node, FragDelete(5, stock.names[1]))
        assert node.report().damaged == 0
        await ask(node, FragVerify(stock.names[0]))
        await node.close()

    run(main, 21)


def test_a_node_that_is_configured_not_to_scrub_says_so_and_does_not() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        node.steer_scrub(ScrubControl(start=1))
        await asyncio.sleep(5)
        assert node.report().scrub.state == "off" and not rig.disk.exists(FILE)
        await node.close()

    run(main, 22)

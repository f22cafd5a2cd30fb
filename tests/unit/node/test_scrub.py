"""The scrub of a node: it finds what rotted without being asked, goes round, and lets nothing hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from objstore.model.errors import Corrupt, NotFound, Overloaded
from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.scrub import ROUND_PAUSE_S, Scrub
from objstore.wire.messages import FragPut
from tests.sim.loop import run
from tests.unit.node.rig import Rig, ask, blob_in, envelope


class Shelf:
    """Fragments of 100 bytes; `bad` is what a check of some of them raises."""

    def __init__(self, count: int) -> None:
        self.names = [b"%021d" % number for number in range(count)]
        self.bad: dict[bytes, Exception] = {}
        self.checked: list[bytes] = []

    def lengths_after(self, fragment: bytes, limit: int) -> Sequence[tuple[bytes, int]]:
        return [(name, 100) for name in self.names if name > fragment][:limit]

    async def check(self, fragment: bytes) -> None:
        self.checked.append(fragment)
        if fragment in self.bad:
            raise self.bad[fragment]


async def scrubbed(shelf: Shelf, seconds: float, rate: int, start: bytes = b"") -> Scrub:
    scrub = Scrub(shelf, rate, start)
    task = asyncio.create_task(scrub.run())
    await asyncio.sleep(seconds)
    task.cancel()
    return scrub


def test_it_begins_anywhere_and_comes_round() -> None:
    async def main() -> None:
        shelf = Shelf(200)
        scrub = await scrubbed(shelf, 1.5 * ROUND_PAUSE_S, 10_000, shelf.names[149])
        assert scrub.rounds == 2, "the rest of the first one, and a whole one"
        assert shelf.checked == shelf.names[150:] + shelf.names

    run(main, 1)


def test_it_keeps_to_its_rate() -> None:
    async def main() -> None:
        shelf = Shelf(1000)
        await scrubbed(shelf, 10.0, 1000)
        assert len(shelf.checked) in range(99, 103)

    run(main, 2)


def test_nothing_ends_it() -> None:
    async def main() -> None:
        shelf = Shelf(5)
        shelf.bad = {shelf.names[1]: Corrupt("rotten"), shelf.names[2]: NotFound("deleted")}
        shelf.bad[shelf.names[3]] = Overloaded("later")
        task = asyncio.create_task((scrub := Scrub(shelf, 10_000, b"")).run())
        await asyncio.sleep(5)
        assert shelf.checked[-1] == shelf.names[3], "what could not be looked at is tried again"
        del shelf.bad[shelf.names[3]]
        await asyncio.sleep(5)
        assert shelf.checked[-1] == shelf.names[4] and scrub.found == 1
        task.cancel()

    run(main, 3)


def test_a_node_finds_the_one_that_rotted_and_no_other() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open(scrub_rate=1 << 20)
        blob = blob_in(5)
        for shard in range(3):
            header, cells = envelope(FragmentId(blob, 0, shard))
            await ask(node, FragPut(5, FragmentId(blob, 0, shard).pack()), header + b"".join(cells))
        held = index.find(rig.rows, FragmentId(blob, 0, 1).pack())
        assert held is not None
        rig.sim_disk.flip("volumes/00000001.vol", held.extent.offset + held.extent.length - 30)
        assert node.stats().fragments == 3
        await asyncio.sleep(2 * ROUND_PAUSE_S)  # it may have begun behind them
        assert node.stats().fragments == 2
        assert index.find(rig.rows, FragmentId(blob, 0, 1).pack()) is None
        await node.close()

    run(main, 4)

"""Levels of fullness: when they begin and end, who may still write at each, and that the index counts alike."""

from __future__ import annotations

import pytest

from objstore.model.cluster import LEVELS, Level
from objstore.model.errors import InsufficientStorage
from objstore.model.limits import MIB
from objstore.model.manifest import FragmentId
from objstore.node.service import NodeService
from objstore.node.space import HYSTERESIS, Thresholds, level_of
from objstore.wire.messages import FragDelete, FragOpen, FragOpened, FragPut
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV
from tests.unit.node.rig import Rig, ask, blob_in, whole

RISING = Thresholds(0.5, 0.7, 0.9)


@pytest.mark.parametrize(
    ("share", "level"), [(0.0, "ok"), (0.499, "ok"), (0.5, "near"), (0.7, "full"), (0.9, "backfill"), (1.0, "backfill")]
)
def test_a_level_begins_at_its_threshold(share: float, level: Level) -> None:
    assert level_of(share, False, RISING, "ok") == level
    assert level_of(share, True, RISING, "ok") == "reserve"


@pytest.mark.parametrize("before", LEVELS)
@pytest.mark.parametrize(("begin", "level"), [(0.5, "near"), (0.7, "full"), (0.9, "backfill")])
def test_a_level_ends_below_where_it_began(begin: float, level: Level, before: Level) -> None:
    index = LEVELS.index
    just_below = level_of(begin - HYSTERESIS / 2, False, RISING, before)
    assert (index(just_below) >= index(level)) == (index(before) >= index(level)), "it stays, and does not begin early"
    assert index(level_of(begin - HYSTERESIS * 1.1, False, RISING, before)) < index(level)


# --- on a node -------------------------------------------------------------------------------------------------


class Fill:
    """A node on a small disk, and fragments of about 256 KiB."""

    def __init__(self, node: NodeService) -> None:
        self.node = node
        self.names: list[FragmentId] = []
        self.refused: dict[bool, str] = {}

    async def put(self, *, backfill: bool = False) -> bool:
        fragment = FragmentId(blob_in(5, len(self.names) + 1), 0, 0)
        try:
            await ask(self.node, FragPut(5, fragment.pack(), backfill), whole(fragment, 500_000))
        except InsufficientStorage as error:
            self.refused[backfill] = str(error)
            return False
        self.names.append(fragment)
        return True

    async def delete(self) -> None:
        await ask(self.node, FragDelete(5, self.names.pop().pack()))


async def small_node(rig: Rig, megabytes: int = 64, **settings: object) -> NodeService:
    rig.sim_disk.capacity = megabytes * MIB
    return await rig.open(capacity_bytes=1 << 40, reserve_bytes=2 * MIB, thresholds=RISING, **settings)


def with_small_node(test, **settings) -> None:  # type: ignore[no-untyped-def]
    from tests.sim.loop import run

    async def main() -> None:
        rig = Rig()
        node = await small_node(rig, **settings)
        await test(rig, node)
        await node.close()

    run(main, 1)


def test_new_data_ends_first_then_repair_and_deletes_never() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        fill = Fill(node)
        seen: list[Level] = ["ok"]

        def look() -> None:
            rig.clock.now += 1
            if node.report().level != seen[-1]:
                seen.append(node.report().level)

        while await fill.put():
            look()
        assert seen == ["ok", "near", "full"] and node.report().room_bytes == 0
        assert "takes no new data" in fill.refused[False] and "Delete objects or add nodes" in fill.refused[False]
        share = node.stats().used_bytes / rig.sim_disk.capacity
        assert 0.68 < share < 0.72
        while await fill.put(backfill=True):
            look()
        assert seen[-1] == "backfill" and "not even data of repair" in fill.refused[True]
        fill.refused.clear()
        while not await fill.put():
            await fill.delete()
            look()
        assert seen == ["ok", "near", "full", "backfill", "full", "near"], "and back, without flickering"
        assert node.stats().used_bytes / rig.sim_disk.capacity < 0.7

    with_small_node(test)


def test_a_stream_of_repair_is_let_in_where_new_data_is_not() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        fill = Fill(node)
        while await fill.put():
            rig.clock.now += 1
        name = FragmentId(blob_in(5, 10_000), 0, 1).pack()
        with pytest.raises(InsufficientStorage):
            await ask(node, FragOpen(5, name, 100_000))
        assert isinstance(await ask(node, FragOpen(5, name, 100_000, backfill=True)), FragOpened)

    with_small_node(test)


def test_what_others_keep_on_the_disk_makes_it_smaller_and_does_not_count_as_ours() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        fill = Fill(node)
        for _ in range(40):
            assert await fill.put()
        assert node.report().level == "ok"
        foreign = rig.sim_disk.capacity - rig.sim_disk.used - 8 * MIB
        rig.sim_disk.take(foreign)
        rig.clock.now += 1
        used = node.stats().used_bytes
        assert node.report().level == level_of(used / (used + 8 * MIB), False, RISING, "ok") == "near"
        rig.sim_disk.take(7 * MIB)
        rig.clock.now += 1
        assert node.report().level == "reserve"
        rig.sim_disk.give_back(foreign + 7 * MIB)
        rig.clock.now += 1
        assert node.report().level == "ok" and await fill.put()

    with_small_node(test)


def test_a_full_index_is_a_full_node_and_deletes_still_work() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        fill = Fill(node)
        levels: list[Level] = []
        while await fill.put() or node.report().level == "ok":
            rig.clock.now += 1
            levels.append(node.report().level)
        assert set(levels) <= {"ok", "near", "full"} and levels[-1] == "full"
        report = node.report()
        assert report.index_size_bytes == 12_000 and report.index_used_bytes >= 0.7 * 12_000
        assert "its index uses" in fill.refused[False]
        while len(fill.names) > 3:
            await fill.delete()
        rig.clock.now += 1
        assert node.report().level == "ok" and await fill.put()

    from objstore.node.service import TABLES
    from tests.sim.loop import run

    async def main() -> None:
        rig = Rig(kv=SimKV(TABLES, 12_000), disk=SimDisk())
        node = await rig.open(thresholds=RISING)
        await test(rig, node)
        await node.close()

    run(main, 2)

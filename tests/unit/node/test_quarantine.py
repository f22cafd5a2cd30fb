"""Damaged copies are kept for a while and not without end, and their space comes back."""

from __future__ import annotations

import pytest

from objstore.model.errors import Corrupt
from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.index import Held
from objstore.node.quarantine import DAY_S, Bounds, overdue
from objstore.node.service import NodeService
from objstore.node.volumes import Extent, padded
from objstore.wire.messages import FragVerify
from tests.sim.kv import SimKV
from tests.unit.node.rig import Rig, ask, whole, with_node
from tests.unit.node.test_fragments import BLOB, VOLUME, offset_of, put, stats

DAY_MS = int(DAY_S * 1000)


def quarantined(ages_days: list[int], length: int = 100) -> SimKV:
    """Copies of one fragment after the other, the first one the oldest or not."""
    kv = SimKV(index.TABLES)
    for number, age in enumerate(ages_days):
        fragment = FragmentId(BLOB, number, 0).pack()
        held = Held(3, Extent(1, number * 4096, length), 10, 0)
        kv.commit(index.quarantining(fragment, held, "damaged", (1000 - age) * DAY_MS))
    return kv


def gone(kv: SimKV, bounds: Bounds) -> list[int]:
    """Their ages in days."""
    return [1000 - copy.since_ms // DAY_MS for copy in overdue(kv, bounds, 1000 * DAY_MS)]


def test_copies_go_by_age_and_by_bytes_the_oldest_first() -> None:
    kv = quarantined([5, 40, 1, 31, 9])
    assert gone(kv, Bounds()) == [40, 31]
    assert gone(kv, Bounds(bytes_max=500)) == [40, 31]
    assert gone(kv, Bounds(bytes_max=250)) == [40, 31, 9]
    assert gone(kv, Bounds(bytes_max=0)) == [40, 31, 9, 5, 1]
    assert gone(kv, Bounds(age_s=50 * DAY_S)) == []
    assert gone(quarantined([]), Bounds(bytes_max=0)) == []


def test_a_copy_whose_bytes_are_lost_already_weighs_nothing() -> None:
    assert gone(quarantined([3, 2], length=0), Bounds(bytes_max=0)) == []


def test_the_space_of_old_copies_comes_back() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        fragments = [FragmentId(BLOB, 0, shard) for shard in range(2)]
        for fragment in fragments:
            await put(node, fragment, whole(fragment))
            rig.sim_disk.flip(VOLUME, offset_of(rig, fragment) + len(whole(fragment)) - 30)
            with pytest.raises(Corrupt, match="quarantine"):
                await ask(node, FragVerify(fragment.pack()))
            rig.clock.now += 20 * DAY_S
        sizes = [padded(len(whole(fragment))) for fragment in fragments]
        before = rig.sim_disk.used
        assert (await stats(node)).used_bytes == sum(sizes)
        await node.check_volumes()
        assert index.quarantined(rig.rows, fragments[0].pack()) == []
        assert len(index.quarantined(rig.rows, fragments[1].pack())) == 1
        assert (await stats(node)).used_bytes == sizes[1]
        rig.clock.now += 20 * DAY_S
        await node.check_volumes()
        assert (await stats(node)).used_bytes == 0
        assert before - rig.sim_disk.used == sum(sizes)

    with_node(check)

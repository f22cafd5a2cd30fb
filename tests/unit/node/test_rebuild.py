"""The index from the volumes alone: everything whole is found, nothing else."""

from __future__ import annotations

from random import Random

from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.rebuild import rebuild_index
from objstore.node.service import TABLES, NodeService
from objstore.node.volumes import BLOCK
from objstore.ports import KV
from objstore.wire.messages import FragDelete, FragList, FragListed, FragPut, FragVerify, NodeStats, NodeStatsReply, Ok
from tests.sim.kv import SimKV
from tests.unit.node.rig import BITS, CLUSTER, Rig, ask, blob_in, run, whole

PARTITIONS = 1 << BITS


def rows(kv: KV) -> dict[str, list[tuple[bytes, bytes]]]:
    return {table: kv.scan(table, b"") for table in index.TABLES}


async def filled(rig: Rig, count: int = 40) -> NodeService:
    random = Random(5)
    node = await rig.open(volume_bytes=64 * BLOCK)
    for salt in range(count):
        partition = random.randrange(PARTITIONS)
        fragment = FragmentId(blob_in(partition, salt), 0, random.randrange(3))
        request = FragPut(partition, fragment.pack())
        await ask(node, request, whole(fragment, random.choice((1, 9_000, 100_000)), fill=salt))
        if salt % 4 == 0:
            await ask(node, FragDelete(partition, fragment.pack()))
    await node.close()
    return node


def test_the_rebuilt_index_is_the_lost_one() -> None:
    async def main() -> None:
        rig = Rig()
        await filled(rig)
        lost = rows(rig.rows)
        fresh = SimKV(TABLES)
        result = rebuild_index(rig.disk, fresh, CLUSTER, PARTITIONS)
        assert rows(fresh) == lost
        assert (result.fragments, result.damaged) == (30, 0) and result.volumes > 1
        again = rebuild_index(rig.disk, fresh, CLUSTER, PARTITIONS)
        assert rows(fresh) == lost and again.fragments == 0

    run(main())


def test_damaged_and_torn_envelopes_are_stepped_over() -> None:
    async def main() -> None:
        rig = Rig()
        await filled(rig)
        held = {key: index.unpack(row) for key, row in rig.kv.scan(index.FRAG, b"")}
        random = Random(6)
        broken = random.sample(sorted(held), 8)
        for i, fragment in enumerate(broken):
            extent = held[fragment].extent
            where = (0, 30, held[fragment].header_length + 1, extent.length - 1)[i % 4]
            rig.sim_disk.flip(f"volumes/{extent.volume:08d}.vol", extent.offset + where)
        fresh = SimKV(TABLES)
        result = rebuild_index(rig.disk, fresh, CLUSTER, PARTITIONS)
        assert sorted(key for key, _ in fresh.scan(index.FRAG, b"")) == sorted(set(held) - set(broken))
        assert result.damaged == 6, "two have lost their magic and are not even recognised"

    run(main())


def test_a_node_without_its_store_serves_its_fragments_again_and_drops_garbage() -> None:
    async def main() -> None:
        rig = Rig()
        await filled(rig)
        before = {key for key, _ in rig.kv.scan(index.FRAG, b"")}
        rig.kv = SimKV(TABLES)
        node = await rig.open(volume_bytes=64 * BLOCK)
        found: set[bytes] = set()
        for partition in range(PARTITIONS):
            page = await ask(node, FragList(partition, b"", 1000))
            assert isinstance(page, FragListed)
            found |= {page.fragments[at : at + 21] for at in range(0, len(page.fragments), 21)}
        assert found == before
        for fragment in sorted(found):
            assert await ask(node, FragVerify(fragment)) == Ok()
        stats = await ask(node, NodeStats())
        assert isinstance(stats, NodeStatsReply)
        assert rig.sim_disk.used == stats.used_bytes + BLOCK, "one more block for identity.json"
        await node.close()

    run(main())


def test_of_two_copies_the_later_one_is_indexed() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        fragment = FragmentId(blob_in(3), 0, 0)
        other = FragmentId(blob_in(3, 1), 0, 0)
        await ask(node, FragPut(3, fragment.pack()), whole(fragment, 5_000))
        await ask(node, FragPut(3, other.pack()), whole(other))
        await node.close()
        end = 8 * BLOCK
        later = whole(fragment, 7_000)
        interrupted, fresh = SimKV(TABLES), SimKV(TABLES)
        rebuild_index(rig.disk, interrupted, CLUSTER, PARTITIONS)
        rig.disk.open("volumes/00000001.vol").pwrite(later, end)
        for kv in (interrupted, fresh):
            rebuild_index(rig.disk, kv, CLUSTER, PARTITIONS)
            held = index.find(kv, fragment.pack())
            assert held is not None and (held.extent.offset, held.extent.length) == (end, len(later))
            assert len(kv.scan(index.EXTENT, b"")) == 2

    run(main())


def test_an_envelope_larger_than_one_read_is_found() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open(volume_bytes=2048 * BLOCK)
        for salt in range(3):
            fragment = FragmentId(blob_in(1, salt), 0, 0)
            await ask(node, FragPut(1, fragment.pack()), whole(fragment, 5_000_000, cell_size=1 << 18, fill=salt))
        await node.close()
        fresh = SimKV(TABLES)
        assert rebuild_index(rig.disk, fresh, CLUSTER, PARTITIONS).fragments == 3
        assert rows(fresh) == rows(rig.rows)

    run(main())

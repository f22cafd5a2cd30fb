"""A node as a whole: who it is, what it answers, how it starts on what it finds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from objstore.adapters.disk import LocalDisk
from objstore.adapters.kv import LmdbKV
from objstore.model import limits
from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, View
from objstore.model.errors import Fatal, InvalidRequest, StaleEpoch, Unreachable
from objstore.model.ids import NodeId
from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.identity import FILE
from objstore.node.service import TABLES, NodeService
from objstore.placement.topology import Topology
from objstore.wire.messages import (
    CoGet,
    FragCommit,
    FragDelete,
    FragLocate,
    FragLocated,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    MapFound,
    MapRead,
    Named,
    NodeStats,
    NodeStatsReply,
    Ok,
    Ping,
    Pong,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    encode_message,
)
from tests.sim.kv import SimKV
from tests.unit.node.rig import BITS, Rig, ask, ballot, blob_in, run, whole, with_node
from tests.unit.node.test_registers import key

P = 3
ONE = FragmentId(blob_in(P), 0, 1)


def test_ping_tells_who_answers() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        before = rig.clock.wall_ms()
        answer = await ask(node, Ping())
        assert answer == Pong("n1", "node", node.id, answer.wall_ms)
        assert before <= answer.wall_ms <= rig.clock.wall_ms()

    with_node(check)


def test_it_tells_the_newest_map_that_it_has_seen() -> None:
    seen = [b"", b"map 1", b"map 2"]

    async def check(rig: Rig, node: NodeService) -> None:
        for expected in (b"", b"map 1", b"map 2"):
            assert await node.handle(MapRead(), b"") == (MapFound(), expected)
            seen.pop(0)

    with_node(check, newest_map=lambda: seen[0])


def test_it_counts_what_clients_wait_for_and_no_backfill() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        async def counted() -> int:
            stats = await ask(node, NodeStats())
            assert isinstance(stats, NodeStatsReply)
            return stats.client_calls

        length = len(raw := whole(ONE))
        await ask(node, FragPut(P, ONE.pack(), backfill=True), raw)
        await ask(node, FragRead(ONE.pack(), 0, 1, backfill=True))
        await ask(node, FragOpen(P, ONE.pack(), length, backfill=True))
        await ask(node, FragVerify(ONE.pack()))
        assert await counted() == 0
        await ask(node, FragPut(P, ONE.pack()), raw)
        await ask(node, FragRead(ONE.pack(), 0, 1))
        await ask(node, FragOpen(P, ONE.pack(), length))
        await ask(node, Named(node.id, encode_message(FragRead(ONE.pack(), 0, 1))))
        assert await counted() == 4

    with_node(check)


def test_a_request_for_the_node_that_had_this_address_before_is_refused() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        assert (await ask(node, Named(node.id, encode_message(Ping())))).id == node.id
        with pytest.raises(Unreachable, match="no longer here"):
            await ask(node, Named("another", encode_message(Ping())))
        with pytest.raises(InvalidRequest, match="cannot be read"):
            await ask(node, Named(node.id, b"\xc1"))

    with_node(check)


def test_messages_for_others_are_refused() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        with pytest.raises(InvalidRequest, match="does not answer CoGet"):
            await ask(node, CoGet("map"))

    with_node(check)


def restarted(change: Callable[[Rig], None], **settings: object) -> tuple[NodeId, NodeId, Rig]:
    """Ids before and after `change` was done to the stopped node."""
    rig = Rig()

    async def main() -> tuple[NodeId, NodeId]:
        node = await rig.open()
        await ask(node, FragPut(P, ONE.pack()), whole(ONE))
        await node.close()
        change(rig)
        again = await rig.open(**settings)
        assert await ask(again, FragVerify(ONE.pack())) == Ok()
        await again.close()
        return node.id, again.id

    return (*run(main()), rig)


def lose_store(rig: Rig) -> None:
    rig.kv = rig.sim_kv = SimKV(TABLES)


def test_a_node_keeps_its_id() -> None:
    before, after, rig = restarted(lambda rig: rig.crash(Random(1)))
    assert before == after and json.loads(rig.disk.read_file(FILE))["node_id"] == before


def test_a_lost_identity_file_is_written_again() -> None:
    before, after, rig = restarted(lambda rig: rig.disk.unlink(FILE))
    assert before == after and rig.disk.exists(FILE)


def test_a_node_that_lost_its_store_keeps_its_fragments_and_never_its_name() -> None:
    before, after, rig = restarted(lose_store)
    assert before != after
    assert json.loads(rig.disk.read_file(FILE))["node_id"] == after

    async def main() -> None:
        node = await rig.open()
        assert node.id == after
        await node.close()

    run(main())


def test_a_node_that_lost_store_and_file_is_rebuilt_too() -> None:
    def lose_both(rig: Rig) -> None:
        lose_store(rig)
        rig.disk.unlink(FILE)

    before, after, _ = restarted(lose_both)
    assert before != after


def test_foreign_folders_are_refused() -> None:
    with pytest.raises(Fatal, match=r"belongs to cluster c+, but the node is configured for dddd"):
        restarted(lambda rig: None, cluster_id="d" * 32)
    with pytest.raises(Fatal, match=r"2\^4 partitions, but the cluster has 2\^5"):
        restarted(lambda rig: None, partition_bits=BITS + 1)
    with pytest.raises(Fatal, match="cannot be read"):
        restarted(lambda rig: rig.disk.write_file(FILE, b"{"))


def test_volumes_of_another_cluster_are_refused_without_index_and_file() -> None:
    def lose_both(rig: Rig) -> None:
        lose_store(rig)
        rig.disk.unlink(FILE)

    with pytest.raises(Fatal, match=r"volumes in this data folder belong to cluster c+, not to dddd"):
        restarted(lose_both, cluster_id="d" * 32)


def test_a_folder_put_together_from_two_nodes_is_refused() -> None:
    def mix(rig: Rig) -> None:
        found = json.loads(rig.disk.read_file(FILE))
        rig.disk.write_file(FILE, json.dumps(found | {"node_id": "0" * 16}).encode())

    with pytest.raises(Fatal, match="two nodes"):
        restarted(mix)


def test_an_interrupted_first_start_is_simply_repeated() -> None:
    for fault in range(2):
        rig = Rig()

        async def main(rig: Rig = rig, fault: int = fault) -> None:
            if fault == 0:
                rig.sim_kv.fail_commit = OSError(5, "power")
            else:
                rig.sim_disk.fail_sync = OSError(5, "power")
            with pytest.raises(Fatal, match="cannot be opened"):
                await rig.open()
            rig.crash(Random(fault))
            node = await rig.open()
            await node.close()

        run(main())


def test_every_start_has_its_own_boot_number() -> None:
    rig = Rig()

    async def main() -> None:
        boots = []
        for _ in range(3):
            node = await rig.open()
            reply = await ask(node, NodeStats(changes=True))
            assert isinstance(reply, NodeStatsReply)
            assert len(reply.data_changes) == len(reply.meta_changes) == 1 << BITS
            boots.append(reply.boot)
            await node.close()
        assert len(set(boots)) == 3

    run(main())


def test_fragments_are_counted_into_partitions_as_the_topology_does() -> None:
    nodes = tuple(Node(NodeId(f"{i:016x}"), f"n{i}", f"z{i}", 1) for i in range(3))
    row = (0, 1, 2)
    layout = Layout(tuple(node.id for node in nodes), (row,) * 16, (row,) * 16)
    topology = Topology(ClusterMap("c", ErasureCode(2, 1), BITS, "zfec", nodes, View(1, layout)))
    random = Random(1)
    for _ in range(100):
        blob, segment = random.randbytes(16), random.randrange(1 << 32)
        fragment = blob + segment.to_bytes(4, "big") + b"\x05"
        assert index.partition_of(fragment, 1 << BITS) == topology.partition_of_blob(blob, segment)


def test_a_node_on_real_adapters_keeps_everything_over_a_restart(tmp_path: Path) -> None:
    """The same code on LMDB, real files and real threads."""
    fragments = [FragmentId(blob_in(P, salt), 0, shard) for salt in range(8) for shard in range(3)]
    size = 4 * limits.MIB

    async def main() -> None:
        disk = LocalDisk(tmp_path)
        kv = LmdbKV(tmp_path / "kv", TABLES, map_size=64 * limits.MIB)
        rig = Rig(disk, kv)
        node = await rig.open(volume_bytes=16 * limits.MIB)
        puts = [ask(node, FragPut(P, f.pack()), whole(f, size, cell_size=limits.CELL_SIZE)) for f in fragments]
        accepts = [
            ask(node, RegAccept(P, 0, key(b"%d" % i), ballot(1), b"l", b"s" * 300), b"d" * 4096) for i in range(500)
        ]
        results = await asyncio.gather(*puts, *accepts)
        assert set(results) == {Ok(), RegAccepted()}
        digests = await ask(node, RegDigests([P]))
        assert isinstance(digests, RegDigested) and digests.counts == [500]
        half = fragments[: len(fragments) // 2]
        blocks = used_blocks(tmp_path)
        assert await ask(node, FragDelete(P, b"".join(f.pack() for f in half))) == Ok()
        assert used_blocks(tmp_path) < blocks * 0.6, "deleted space is back in the file system"
        await node.close()
        kv.close()

        rig.kv = LmdbKV(tmp_path / "kv", TABLES, map_size=64 * limits.MIB)
        again = await rig.open(volume_bytes=16 * limits.MIB)
        assert again.id == node.id
        assert await ask(again, RegDigests([P])) == digests
        for fragment in fragments[len(half) :]:
            assert await ask(again, FragVerify(fragment.pack())) == Ok()
        assert await ask(again, FragLocate(fragments[0].blob, 0)) == FragLocated([])
        await again.close()
        rig.kv.close()

    asyncio.run(main())


def used_blocks(root: Path) -> int:
    return sum(path.stat().st_blocks for path in (root / "volumes").iterdir())


def test_a_node_without_a_share_takes_nothing_in_and_says_so() -> None:
    shares = [True]
    fragment = FragmentId(blob_in(3), 0, 0)

    async def check(rig: Rig, node: NodeService) -> None:
        async def closed() -> bool:
            stats = await ask(node, NodeStats())
            assert isinstance(stats, NodeStatsReply)
            return stats.closed

        assert not await closed()
        opened = await ask(node, FragOpen(3, fragment.pack(), len(whole(fragment))))
        assert isinstance(opened, FragOpened)
        putting = asyncio.create_task(ask(node, FragPut(3, fragment.pack()), whole(fragment)))
        await asyncio.sleep(0)
        shares[0] = False
        assert not await closed(), "one is still on its way in"
        assert await putting == Ok()
        assert await closed()
        for request in (FragPut(3, fragment.pack()), FragOpen(3, fragment.pack(), 100), FragCommit(opened.stream)):
            with pytest.raises(StaleEpoch, match="no share"):
                await ask(node, request, whole(fragment))
        shares[0] = True
        assert not await closed()
        assert await ask(node, FragPut(3, fragment.pack()), whole(fragment)) == Ok()

    with_node(check, has_share=lambda node: shares[0])

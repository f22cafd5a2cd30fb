"""A node whose index rots: it answers as before or not at all, ends, and in a new life keeps what it had (INV-16)."""

from __future__ import annotations

import asyncio
from copy import deepcopy

import pytest

from objstore.model.errors import Fatal, ObjstoreError, Unavailable
from objstore.model.manifest import FragmentId
from objstore.node import damage
from objstore.node.commit import IndexLost
from objstore.node.register_rows import FENCE, INLINE, REG, place_of, stored_key
from objstore.node.sealed import TABLE as SEAL
from objstore.node.service import INDEX, TABLES, NodeService, open_node
from objstore.ports import DamagedKV
from objstore.wire.messages import (
    FragList,
    FragLocate,
    FragPut,
    FragRead,
    Named,
    PageAsk,
    Ping,
    RecPull,
    RecPulled,
    RegAccept,
    RegFence,
    RegForget,
    RegPaged,
    RegPages,
    RegPrepare,
    RegPull,
    RegRead,
    RegScan,
    Request,
)
from tests.sim.kv import SimKV
from tests.unit.node.rig import BUCKET, Rig, ask, ballot, blob_in, run, whole

TAG = 2
A, B, C, LONG, NOTHING = (BUCKET + b"\x01" + name for name in (b"a", b"b", b"c", b"long" * 200, b"nothing"))
FRAGMENT = FragmentId(blob_in(5), 0, 0)
QUESTIONS: tuple[Request, ...] = (
    *(RegRead(3, TAG, key) for key in (A, B, C, LONG, NOTHING)),
    RegScan(3, TAG, BUCKET, 1, b"", b"", 100),
    RegPages(BUCKET, 1, b"", 1, [PageAsk(3, TAG, b"", True)]),  # of rows with short places
    RegPages(BUCKET, 1, b"", 100, [PageAsk(3, TAG, b"", True)]),
    RegPull(3, b"", 100),
    FragRead(FRAGMENT.pack(), 0, 4096),
    FragList(5, b"", 100),
    FragLocate(FRAGMENT.blob, 0),
)


async def fill(rig: Rig) -> NodeService:
    node = await rig.open()
    await ask(node, RegFence([3], TAG))
    await ask(node, RegForget(3, TAG, ballot(2)))
    for number, key in enumerate((A, B, LONG)):
        await ask(node, RegPrepare(3, TAG, key, ballot(5 + number)))
        await ask(
            node, RegAccept(3, TAG, key, ballot(5 + number), b"listing", b"state" * number), b"data" * 10 * number
        )
    await ask(node, RegPrepare(3, TAG, C, ballot(9)))
    await ask(node, FragPut(5, FRAGMENT.pack()), whole(FRAGMENT))
    return node


async def answers(node: NodeService) -> list[object]:
    found: list[object] = []
    for question in QUESTIONS:
        try:
            reply, payload = await node.handle(question, b"")
            found.append((reply, bytes(payload)))
        except ObjstoreError as error:
            found.append(error)
    return found


def test_every_byte_of_every_row_of_a_node_may_rot() -> None:
    async def main() -> None:
        rig = Rig()
        node = await fill(rig)
        right = await answers(node)
        assert not [answer for answer in right if isinstance(answer, ObjstoreError)]
        await node.close()
        sound, ends = rig.sim_kv, 0
        for number, (table, key, at) in enumerate(sound.places()):
            rig.kv = kv = deepcopy(sound)
            rig.fatal.clear()
            node = await rig.open()
            assert kv.flip(table, key, at, 1 << number % 8)
            for answer, expected in zip(await answers(node), right, strict=True):
                assert answer == expected or isinstance(answer, Unavailable), (table, key, at)
            await asyncio.sleep(0)
            assert bool(rig.fatal) == damage.is_marked(rig.disk, INDEX)
            if rig.fatal:
                assert isinstance(rig.fatal[0], IndexLost)
                with pytest.raises(Unavailable, match="index of this node is damaged"):
                    await node.handle(Ping(), b"")
                rig.disk.unlink(f"{INDEX}.damaged")
                ends += 1
            await node.close()
            if table == SEAL:
                continue  # the last commit of a node writes the sum of the seals anew, and it has the right one
            with pytest.raises(DamagedKV):
                rig.rows.check(also=[INLINE])
        assert ends > 1000

    run(main())


def test_a_rotten_index_vouches_for_nothing_but_what_was_written() -> None:
    """For digests rows are read without a look at their seals: so it may say what it likes, but not that it agrees."""

    async def main() -> None:
        rig = Rig()
        node = await fill(rig)
        question = RegPages(BUCKET, 1, b"", 2, [PageAsk(3, TAG, b"", False)])
        right = await ask(node, question)
        assert isinstance(right, RegPaged) and right.pages[0].digest and not right.pages[0].names
        told = await ask(node, RegPages(BUCKET, 1, b"", 2, [PageAsk(3, TAG, b"", True)]))
        assert isinstance(told, RegPaged) and told.pages[0].digest == right.pages[0].digest
        await node.close()
        sound, others = rig.sim_kv, 0
        for number, (table, key, at) in enumerate(sound.places()):
            if table != REG:
                continue
            rig.kv = kv = deepcopy(sound)
            rig.fatal.clear()
            node = await rig.open()
            before = dict(kv.scan(REG, b""))
            assert kv.flip(table, key, at, 1 << number % 8)
            same = [(k, v[17:33]) for k, v in kv.scan(REG, b"")] == [(k, v[17:33]) for k, v in before.items()]
            try:
                reply = await ask(node, question)
                assert isinstance(reply, RegPaged)
                assert (reply == right) == same or len(key) > 100, (key, at)
                others += reply != right
            except Unavailable:
                rig.disk.unlink(f"{INDEX}.damaged")
            await node.close()
        assert others > 50

    run(main())


@pytest.mark.parametrize("table", [REG, INLINE, FENCE, SEAL])
def test_a_damaged_index_is_the_end_of_a_life_and_its_journal_is_served(table: str) -> None:
    async def main() -> None:
        rig = Rig()
        node = await fill(rig)
        former = node.id
        await node.close()
        key = next(key for where, key, _ in rig.sim_kv.places() if where == table)
        rig.sim_kv.flip(table, key, len(key))
        with pytest.raises(DamagedKV) as found:
            rig.rows.check(also=[INLINE])
        damage.mark(rig.disk, INDEX, str(found.value.strerror))
        rig.sim_disk.make_dir(INDEX)
        kept: list[str] = []
        damage.set_aside(rig.disk, INDEX, kept.append)
        assert kept == [f"{INDEX}.damaged-1"]
        rig.kv = SimKV(TABLES)
        node = await rig.open()
        assert node.id != former and node.has_lost_records
        with pytest.raises(ObjstoreError):
            await ask(node, Named(former, b""))
        told = await ask(node, RecPull(3, b"", 100, 0))
        assert isinstance(told, RecPulled) and told.keys == [A, B, LONG] and told.node == former
        assert await ask(node, FragRead(FRAGMENT.pack(), 0, 4096))
        await node.close()

    run(main())


def test_a_lost_inline_row_ends_the_node() -> None:
    async def main() -> None:
        rig = Rig()
        node = await fill(rig)
        rig.sim_kv.commit([(INLINE, stored_key(place_of(3, B)), None)])
        with pytest.raises(Unavailable, match="inline"):
            await ask(node, RegRead(3, TAG, B))
        assert isinstance(rig.fatal[0], IndexLost) and damage.is_marked(rig.disk, INDEX)
        await node.close()

    run(main())


def test_damage_found_while_opening_is_marked() -> None:
    async def main() -> None:
        rig = Rig()
        await (await fill(rig)).close()
        rig.sim_kv.flip(REG, stored_key(place_of(3, A)), 20)
        with pytest.raises(Fatal, match="index of this node is damaged"):
            await open_node(
                rig.disk, rig.kv, rig.clock, rig.random, cluster_id="c" * 32, name="n", zone="z",
                capacity_bytes=1 << 40, reserve_bytes=0, partition_bits=4,
            )  # fmt: skip
        assert damage.is_marked(rig.disk, INDEX)

    run(main())

"""The power is cut before every single change of the disk and of the index, one after the other, in one history.

The history starts with an empty folder and has everything that a node stores: fragments put, streamed, deleted, a
volume that fills up, registers prepared, accepted, installed, forgotten, a fence, a drop, a journal that rotates and is
compacted. After each cut the node starts again, is cut off once more somewhere in its recovery, and then must have
every word that it gave: with its index, and, as far as values and fragments go, without it.
"""

from __future__ import annotations

import errno
from random import Random

import pytest

from objstore.model.clock import ZERO
from objstore.model.errors import Fatal, NotFound, ObjstoreError
from objstore.model.limits import KIB
from objstore.model.manifest import FragmentId
from objstore.model.records import Register, encode
from objstore.node import index
from objstore.node.service import TABLES, NodeService
from objstore.node.volumes import BLOCK
from objstore.wire.messages import (
    FragDelete,
    FragPut,
    FragVerify,
    Ok,
    RecPull,
    RecPulled,
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
from tests.sim.kv import SimKV
from tests.unit.node.rig import BITS, Rig, ask, ballot, blob_in, run, whole
from tests.unit.node.test_crash import Workload
from tests.unit.node.test_registers import key

P, DROPPED, INSTALLED = 3, 5, 6  # partitions
FRAGMENTS = [FragmentId(blob_in(salt, salt), 0, salt % 3) for salt in range(5)]
TOMBSTONE = encode(Register(b""))
STEPS = 90  # changes at least that the history has; it says so when it has fewer
WIDTH = 10  # cuts in one test


class Power:
    """Lets so many changes happen, and none after them."""

    def __init__(self, rig: Rig, left: int) -> None:
        self.left = left
        self.is_cut = False
        rig.sim_disk.before_change = rig.sim_kv.before_change = self._use

    def _use(self) -> None:
        self.is_cut = self.is_cut or self.left == 0
        self.left -= 1
        if self.is_cut:
            raise OSError(errno.EIO, "the power is cut")


class History:
    """What the node was asked, in order, and what it answered. `words` are checked after the cut."""

    def __init__(self) -> None:
        self.node_id = ""
        self.work = Workload(1)  # its two ways to store a fragment
        self.fragments: dict[FragmentId, bool | None] = {}  # None: asked for and not answered
        self.values: dict[bytes, tuple[int, bytes]] = {}  # key -> ballot time and data of the last accept answered
        self.asked: dict[bytes, set[int]] = {}
        self.promised: dict[bytes, int] = {}
        self.fence = 0
        self.dropped = self.drop_asked = False
        self.forgotten: bool | None = False

    async def run(self, rig: Rig) -> None:
        node = await rig.open(volume_bytes=8 * BLOCK, record_file_bytes=2 * KIB)
        self.node_id = node.id
        try:
            await self._play(node)
        finally:
            await node.close()

    async def _play(self, node: NodeService) -> None:
        await self._put(node, FRAGMENTS[0])
        await self._accept(node, b"a", 10, bytes(700))
        await self._stream(node, FRAGMENTS[1])
        await self._accept(node, b"b", 11, b"inline")
        await ask(node, RegAccept(DROPPED, 0, key(b"x"), ballot(5), b"l", b"s"), b"data")
        await self._prepare(node, b"a", 20)
        await self._delete(node, FRAGMENTS[0])
        await self._install(node, b"i", 12, b"installed")
        await self._put(node, FRAGMENTS[2])
        self.drop_asked = True
        assert await ask(node, RegDrop([DROPPED], 7)) == Ok()
        self.dropped = True
        for time in range(21, 27):
            await self._accept(node, b"a", time, bytes([time]) * 900)
        assert await ask(node, RegFence([P], 4)) == Ok()
        self.fence = 4
        await self._accept(node, b"t", 30, b"", state=TOMBSTONE)
        assert await ask(node, RegForget(P, 4, ballot(40))) == Ok()
        self.forgotten = None
        assert await ask(node, RegForget(P, 4, ballot(40), [key(b"t")], ballot(30))) == Ok()
        self.forgotten = True
        await self._stream(node, FRAGMENTS[3])
        await self._accept(node, b"c", 41, bytes(100))
        await self._put(node, FRAGMENTS[4])

    async def _put(self, node: NodeService, fragment: FragmentId) -> None:
        self.fragments[fragment] = None
        partition = index.partition_of(fragment.pack(), 1 << BITS)
        assert await ask(node, FragPut(partition, fragment.pack()), whole(fragment)) == Ok()
        self.fragments[fragment] = True

    async def _stream(self, node: NodeService, fragment: FragmentId) -> None:
        self.fragments[fragment] = None
        await self.work._stream(node, fragment)
        self.fragments[fragment] = True

    async def _delete(self, node: NodeService, fragment: FragmentId) -> None:
        self.fragments[fragment] = None
        partition = index.partition_of(fragment.pack(), 1 << BITS)
        assert await ask(node, FragDelete(partition, fragment.pack())) == Ok()
        self.fragments[fragment] = False

    async def _prepare(self, node: NodeService, name: bytes, time: int) -> None:
        assert isinstance(await ask(node, RegPrepare(P, 4, key(name), ballot(time))), RegState)
        self.promised[name] = time

    async def _accept(self, node: NodeService, name: bytes, time: int, data: bytes, state: bytes = b"s") -> None:
        self.asked.setdefault(name, set()).add(time)
        request = RegAccept(P, 4, key(name), ballot(time), b"l" if data else b"", state)
        assert await ask(node, request, data) == RegAccepted()
        self.values[name] = (time, data)
        self.promised[name] = time

    async def _install(self, node: NodeService, name: bytes, time: int, data: bytes) -> None:
        self.asked.setdefault(name, set()).add(time)
        request = RegInstall(INSTALLED, 4, [key(name)], ballot(time), [b"l"], [b"s"], [len(data)])
        assert await ask(node, request, data) == Ok()
        self.values[name] = (time, data)

    # --- after the cut ---

    async def check(self, node: NodeService) -> None:
        assert not self.node_id or node.id == self.node_id
        await self._check_fragments(node)
        for name in self.asked:
            await self._check_value(node, name)
        for name, time in self.promised.items():
            if self.forgotten is False or name != b"t":
                assert isinstance(await ask(node, RegPrepare(P, 4, key(name), ballot(time))), RegRefused), name
        if self.fence:
            assert isinstance(await ask(node, RegRead(P, self.fence - 1, key(b"a"))), RegStale)
        told = await ask(node, RegRead(DROPPED, 7, key(b"x")))
        assert isinstance(told, RegState) and (not self.dropped or told.accepted == ZERO.pack())

    async def _check_fragments(self, node: NodeService) -> None:
        for fragment, held in self.fragments.items():
            try:
                assert await ask(node, FragVerify(fragment.pack())) == Ok()
                found = True
            except NotFound:
                found = False
            assert held is None or found is held, f"{fragment}: {held}, and now {found}"

    async def _check_value(self, node: NodeService, name: bytes) -> None:
        reply, data = await node.handle(RegRead(INSTALLED if name == b"i" else P, 4, key(name)), b"")
        assert isinstance(reply, RegState)
        time = int.from_bytes(reply.accepted[:8], "big")
        if name == b"t" and self.forgotten is not False:
            assert time == 0 or self.forgotten is None
            assert time != 0 or reply.floor == ballot(40), "the floor stands for what was forgotten"
            return
        known, value = self.values.get(name, (0, b""))
        assert time >= known and (time == 0 or time in self.asked[name]), name
        if time == known and time:
            assert bytes(data) == value

    async def check_without_index(self, node: NodeService) -> None:
        """What the volumes and the journal of the former life tell."""
        await self._check_fragments_without_index(node)
        for partition in (P, INSTALLED):
            told, _ = await node.handle(RecPull(partition, b"", 1024), b"")
            assert isinstance(told, RecPulled) and not told.more and told.damaged == 0
            times = {name: int.from_bytes(told.ballots[16 * i :][:8], "big") for i, name in enumerate(told.keys)}
            for name, (time, _) in self.values.items():
                if (name == b"i") is (partition == INSTALLED) and not (name == b"t" and self.forgotten is not False):
                    assert times.get(key(name), 0) >= time, f"{name!r} is not in the journal"
        if self.dropped:
            told, _ = await node.handle(RecPull(DROPPED, b"", 1024), b"")
            assert isinstance(told, RecPulled) and not told.keys and told.tag == 7

    async def _check_fragments_without_index(self, node: NodeService) -> None:
        for fragment, held in self.fragments.items():
            if held:
                assert await ask(node, FragVerify(fragment.pack())) == Ok()


async def play(cut: int) -> tuple[Rig, History, Power]:
    rig, history = Rig(), History()
    power = Power(rig, cut)
    try:
        await history.run(rig)
    except (ObjstoreError, Fatal):
        assert power.is_cut
    return rig, history, power


async def stumble(rig: Rig, left: int) -> None:
    """Start, and lose power again after so many changes."""
    power = Power(rig, left)
    try:
        node = await rig.open(volume_bytes=8 * BLOCK, record_file_bytes=2 * KIB)
        await node.close()
    except Fatal:
        assert power.is_cut


@pytest.mark.parametrize("first", range(0, STEPS, WIDTH))
def test_a_cut_before_any_change_breaks_no_word(first: int) -> None:
    async def main() -> None:
        for cut in range(first, first + WIDTH):
            for turn in range(3):  # ways in which the same cut may leave the disk
                random = Random(f"{cut} {turn}")
                rig, history, power = await play(cut)
                assert power.is_cut, "the history has become shorter: lower STEPS"
                rig.crash(random)
                if turn:
                    await stumble(rig, random.randrange(8))
                    rig.crash(random)
                await _start_and_check(rig, history)

    run(main())


def test_the_cuts_reach_the_end_of_the_history() -> None:
    async def main() -> None:
        rig, history, power = await play(1 << 30)
        used = (1 << 30) - power.left
        assert not power.is_cut and STEPS <= used, used
        for cut in range(STEPS, used):  # those of the tests above, and the rest
            rig, history, power = await play(cut)
            rig.crash(Random(cut))
            await _start_and_check(rig, history)
        rig, history, _ = await play(1 << 30)
        rig.crash(Random(0))
        await _start_and_check(rig, history)

    run(main())


async def _start_and_check(rig: Rig, history: History) -> None:
    node = await rig.open(volume_bytes=8 * BLOCK, record_file_bytes=2 * KIB)
    await history.check(node)
    await node.close()
    if history.node_id:
        rig.kv = rig.sim_kv = SimKV(TABLES)
        reborn = await rig.open(volume_bytes=8 * BLOCK, record_file_bytes=2 * KIB)
        assert reborn.id != history.node_id
        await history.check_without_index(reborn)
        await reborn.close()

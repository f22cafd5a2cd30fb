"""The acceptor side of the key registers: `objstore.register.acceptor` over durable rows.

Decisions are taken on the event loop, one at a time, against the committed rows overlaid with what is still in the
commit queue. A reply that promises anything leaves only when its rows are durable (INV-2); refusals may leave at
once, because refusing is always safe. Reads and scans answer from committed rows only.

Not here: rounds, majorities and layouts (the proposer's), how rows look (`objstore.node.register_rows`).

Fences: a request with a tag below the fence of its partition is answered RegStale. The fence counts from the moment
it is asked for; what others are told of it (RegPull) is the durable one, read before the rows, so that nothing
accepted below it can appear after it. The floor (INV-11) likewise: it refuses from the moment it is asked for.
"""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import xxhash

from objstore.model import limits
from objstore.model.clock import ZERO, Ballot
from objstore.model.errors import InvalidRequest, ObjstoreError
from objstore.model.records import Register, decode
from objstore.node import register_rows as rows
from objstore.node.commit import GroupCommit, Planned
from objstore.node.journal_format import (
    encode_drop,
    encode_fence,
    encode_floor,
    encode_forget,
    encode_promise,
    encode_value,
    value_length,
)
from objstore.node.pace import Pace
from objstore.node.register_pages import list_pages, pull_page, scan_page
from objstore.node.register_rows import NOTHING, Held
from objstore.node.space import Space
from objstore.ports import KV, Buffer, Later, Write
from objstore.register import acceptor
from objstore.wire.messages import (
    Ok,
    Page,
    PageAsk,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegForget,
    RegInstall,
    RegPaged,
    RegPages,
    RegPrepare,
    RegPull,
    RegRead,
    RegRefused,
    RegScan,
    RegStale,
    RegState,
    Reply,
)

LISTING_BYTES_MAX = 4 * limits.KIB
VALUE_BYTES_MAX = limits.SCAN_BYTES_MAX  # one register always fits a page
DROP_REGISTERS_MAX = 50_000  # forgotten in one commit, unless one partition alone has more

_ZERO = ZERO.pack()
_WHOLE = struct.Struct(">QQ")  # count, xor of the hashes of (key, accepted ballot)
_Answer = tuple[Reply, Buffer]


class _Whole(NamedTuple):
    """A partition at one moment."""

    digest: bytes
    changes: int  # until then


class RegisterStore:
    def __init__(self, kv: KV, commits: GroupCommit, space: Space, partitions: int, paging: Pace) -> None:
        self._kv = kv
        self._commits = commits
        self._paging = paging
        self._space = space
        self.partitions = partitions
        self._queued: dict[bytes, Held] = {}  # place -> newest state that is not durable yet
        self._dropping: dict[int, int] = {}  # partition -> drops not durable yet
        self._fencing: dict[int, int] = {}  # partition -> fences not durable yet
        self._fences = array("Q", bytes(8 * partitions))
        self._floors: dict[int, Ballot] = {}
        self._counts = array("Q", bytes(8 * partitions))
        self._digests = array("Q", bytes(8 * partitions))
        self._live = array("Q", bytes(8 * partitions))  # bytes of present registers in the record journal
        self.changes = array("Q", bytes(8 * partitions))

    def recover(self) -> None:
        """Blocking, once, at start: what is kept in memory, from the rows."""
        for partition, tag in rows.fences(self._kv):
            self._fences[partition] = tag
        self._floors.update(rows.floors(self._kv))
        for row in rows.all_rows(self._kv):
            if row.is_written:
                partition = int.from_bytes(row.place[:2], "big")
                self._counts[partition] += 1
                self._live[partition] += row.record_length
                self._digests[partition] ^= _hash(row.place[2:], row.accepted)

    @property
    def count(self) -> int:
        return sum(self._counts)

    @property
    def is_fenced(self) -> bool:
        return any(self._fences)

    @property
    def live_bytes(self) -> int:
        return sum(self._live)

    # --- one register --------------------------------------------------------------------------------------

    async def read_later(self, request: RegRead, payload: Buffer) -> _Answer:
        """Once the fence is durable that this read asks for, or that another has."""
        if request.tag > self._fence(request.partition):
            self._raise_fence([request.partition], request.tag)
        await self._commits.submit()
        return self._read(request)

    def read(self, request: RegRead, payload: Buffer) -> _Answer | None:
        """None: it has to wait (`read_later`)."""
        if acceptor.is_joint(request.tag) and (
            request.tag > self._fence(request.partition) or request.partition in self._fencing
        ):
            return None
        return self._read(request)

    def _read(self, request: RegRead) -> _Answer:
        if request.tag < self._fence(request.partition):
            return self._stale(request.partition), b""
        place = rows.place_of(request.partition, request.key)
        held = rows.load(self._kv, place, ahead=self._commits.ahead, with_data=request.with_data)
        return self._report(request.partition, held), held.data

    def prepare(self, request: RegPrepare, payload: Buffer) -> _Answer | Later:
        if request.tag < self._fence(request.partition):
            return self._stale(request.partition), b""
        place = rows.place_of(request.partition, request.key)
        held, floor = self._current(request.partition, place), self._floor(request.partition)
        state, granted = acceptor.prepare(held.acceptor, _ballot(request.ballot), floor)
        if not granted:
            return RegRefused(acceptor.refusal(held.acceptor, floor).pack()), b""
        if acceptor.is_joint(request.tag) and request.tag > self._fence(request.partition):
            self._raise_fence([request.partition], request.tag)
        done = self._put(request.partition, request.tag, [(place, held, held._replace(acceptor=state))])
        report = self._report(request.partition, held)
        if not self._space.has_room_for_register():
            report = msgspec.structs.replace(report, full=True)
        return Later(done, (report, held.data if request.with_data else b""))

    def accept(self, request: RegAccept, payload: Buffer) -> _Answer | Later:
        if request.tag < self._fence(request.partition):
            return self._stale(request.partition), b""
        _check_value(request.listing, request.state, len(payload))
        place = rows.place_of(request.partition, request.key)
        held, floor = self._current(request.partition, place), self._floor(request.partition)
        state, granted = acceptor.accept(held.acceptor, _ballot(request.ballot), floor)
        if not granted:
            return RegRefused(acceptor.refusal(held.acceptor, floor).pack()), b""
        if state == held.acceptor:  # a repeat: the first one may still be on its way to the disk
            answer = RegAccepted(), b""
            return Later(self._commits.submit(), answer) if place in self._queued else answer
        # Tombstones are let through: deletes must work on a full disk. So is the value of a ballot that was promised:
        # its proposer was told then how full the disk is, and may only want to settle what is there (`full`).
        if (request.listing or payload) and held.acceptor.promised != state.accepted:
            self._space.need_for_register()
        taken = Held(state, request.listing, request.state, bytes(payload))
        return Later(self._put(request.partition, request.tag, [(place, held, taken)]), (RegAccepted(), b""))

    # --- many registers ------------------------------------------------------------------------------------

    async def install(self, request: RegInstall, payload: Buffer) -> _Answer:
        if request.tag < self._fence(request.partition):
            return self._stale(request.partition), b""
        self._space.need_for_register()
        count = len(request.keys)
        lists = (request.listings, request.states, request.data_lengths)
        if len(request.ballots) != 16 * count or any(len(one) != count for one in lists):
            raise InvalidRequest("RegInstall: its lists differ in length")
        if min(request.data_lengths, default=0) < 0 or sum(request.data_lengths) != len(payload):
            raise InvalidRequest("RegInstall: the data lengths do not add up to the payload")
        view = memoryview(payload)
        changed: dict[bytes, tuple[Held, Held]] = {}  # place -> before, after
        wait = False
        offset = 0
        for index, key in enumerate(request.keys):
            length = request.data_lengths[index]
            listing, state = request.listings[index], request.states[index]
            _check_value(listing, state, length)
            place = rows.place_of(request.partition, key)
            if place in changed:
                raise InvalidRequest("RegInstall: a key appears twice")
            held = self._current(request.partition, place)
            ballot = _ballot(request.ballots[16 * index : 16 * index + 16])
            ballots, taken = acceptor.install(held.acceptor, ballot, self._floor(request.partition))
            if taken:
                data = bytes(view[offset : offset + length])
                changed[place] = (held, Held(ballots, listing, state, data))
            wait = wait or place in self._queued
            offset += length
        if changed:
            await self._put(request.partition, request.tag, [(place, *pair) for place, pair in changed.items()])
        elif wait:
            await self._commits.submit()
        return Ok(), b""

    async def scan(self, request: RegScan, payload: Buffer) -> _Answer:
        followed = await self._commits.followed(or_laid_over=not request.with_state)
        if request.tag < self._fence(request.partition):
            return self._stale(request.partition), b""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, scan_page, followed, self._kv, request), b""

    def vouch(self, request: RegPages, payload: Buffer) -> _Answer | None:
        """None: rows have to be read (`pages`)."""
        if any(ask.read for ask in request.asks):
            return None
        return RegPaged([self._vouched(*each) for each in zip(request.asks, self._wholes(request), strict=True)]), b""

    async def pages(self, request: RegPages, payload: Buffer) -> _Answer:
        followed = await self._commits.followed()
        asks = [ask if ask.read and ask.tag >= self._fence(ask.partition) else None for ask in request.asks]
        before = [None] * len(asks) if self._commits.ahead else self._wholes(request)
        pages = await self._paging.run(list_pages, followed, request, asks)
        for i, (ask, then, now) in enumerate(zip(request.asks, before, self._wholes(request), strict=True)):
            if not ask.read:
                pages[i] = self._vouched(ask, now)
            elif pages[i].digest and then is not None and then == now:
                pages[i] = msgspec.structs.replace(pages[i], whole=then.digest)
        return RegPaged(pages), b""

    def _vouched(self, ask: PageAsk, whole: _Whole | None) -> Page:
        return Page(b"", whole=whole.digest if whole and ask.tag >= self._fence(ask.partition) else b"")

    def _wholes(self, request: RegPages) -> list[_Whole | None]:
        """Of each ask all that is accepted in its partition; None where rows are on their way to the disk: a read may
        show those in the store before they are settled, and counted here. As long as it stays the same, and nothing was
        `ahead`, the rows of the store are just that."""
        moving = {int.from_bytes(place[:2], "big") for place in self._queued} | self._dropping.keys()
        return [None if ask.partition in moving else self._whole(ask.partition) for ask in request.asks]

    def _whole(self, partition: int) -> _Whole:
        self._fence(partition)
        digest = _WHOLE.pack(self._counts[partition], self._digests[partition])
        return _Whole(digest, self.changes[partition])

    async def pull(self, request: RegPull, payload: Buffer) -> _Answer:
        self._fence(request.partition)
        await self._commits.flush()
        return await asyncio.get_running_loop().run_in_executor(None, pull_page, self._kv, request)

    async def digests(self, request: RegDigests, payload: Buffer) -> _Answer:
        for partition in request.partitions:
            self._fence(partition)
        counts = [self._counts[partition] for partition in request.partitions]
        return RegDigested(counts, [self._digests[partition] for partition in request.partitions]), b""

    # --- forgetting (INV-11) -------------------------------------------------------------------------------

    async def forget(self, request: RegForget, payload: Buffer) -> _Answer:
        partition = request.partition
        if request.tag < self._fence(partition):
            return self._stale(partition), b""
        if len(request.ballots) != 16 * len(request.keys):
            raise InvalidRequest("RegForget: its lists differ in length")
        if (asked := _ballot(request.floor)) > self._floor(partition):
            self._raise_floor(partition, asked)
        floor = self._floor(partition)
        gone: dict[bytes, tuple[bytes, Held, Held]] = {}
        for index, key in enumerate(request.keys):
            place = rows.place_of(partition, key)
            held = self._current(partition, place)
            ballot = Ballot.unpack(request.ballots[16 * index : 16 * index + 16])
            if held != NOTHING and acceptor.may_forget(held.acceptor, ballot, floor) and _is_empty(held):
                gone[place] = (place, held, NOTHING._replace())  # each one itself: see `settled` of _put
        if gone:
            written = [place[2:] for place, held, _ in gone.values() if held.acceptor.accepted != ZERO]
            told = [encode_forget(partition, floor.pack(), written)] if written else []
            await self._put(partition, request.tag, list(gone.values()), told)
        else:
            await self._commits.submit()  # a repeat: the first one may still be on its way to the disk
        return Ok(), b""

    def _raise_floor(self, partition: int, floor: Ballot) -> None:
        """Durable before whatever is queued from now on."""

        def settled(error: ObjstoreError | None) -> None:
            if error is not None:
                self._reread_floor(partition)

        write, record = rows.floor_write(partition, floor), encode_floor(partition, floor.pack())
        self._commits.submit([write], records=[record], settled=settled)
        self._floors[partition] = floor

    def _reread_floor(self, partition: int) -> None:
        if self._commits.fatal is None:
            self._floors[partition] = rows.read_floor(self._kv, partition)

    # --- fences --------------------------------------------------------------------------------------------

    async def fence(self, request: RegFence, payload: Buffer) -> _Answer:
        await self._raise_fence([p for p in request.partitions if self._fence(p) < request.tag], request.tag)
        return Ok(), b""

    def _raise_fence(self, partitions: Sequence[int], tag: int) -> asyncio.Future[None]:
        raised = list(dict.fromkeys(partitions))
        fences_settled = self._fence_settled(raised)

        def settled(error: ObjstoreError | None) -> None:
            fences_settled(error)
            for partition in raised:
                self._fencing[partition] -= 1
                if not self._fencing[partition]:
                    del self._fencing[partition]

        writes = [rows.fence_write(partition, tag) for partition in raised]
        records = [encode_fence(partition, tag) for partition in raised]
        done = self._commits.submit(writes, records=records, settled=settled)
        for partition in raised:
            self._fences[partition] = tag
            self._fencing[partition] = self._fencing.get(partition, 0) + 1
        return done

    async def drop(self, request: RegDrop, payload: Buffer) -> _Answer:
        below = [p for p in dict.fromkeys(request.partitions) if self._fence(p) < request.tag]
        waiting = [self._drop(group, request.tag) for group in self._drop_groups(below)]
        waiting.append(self._commits.submit())  # a drop asked for earlier may still be on its way
        for done in waiting:
            await done
        return Ok(), b""

    def _drop_groups(self, partitions: Sequence[int]) -> list[list[int]]:
        groups: list[list[int]] = []
        size = 0
        for partition in partitions:
            count = self._counts[partition]
            if not groups or size + count > DROP_REGISTERS_MAX:
                groups.append([])
                size = 0
            groups[-1].append(partition)
            size += count
        return groups

    def _drop(self, partitions: list[int], tag: int) -> asyncio.Future[None]:
        """Each partition: fence and removal in one commit, planned when everything queued before is in the rows."""

        def plan() -> Planned:
            writes = [rows.fence_write(partition, tag) for partition in partitions]
            for partition in partitions:
                writes.extend(rows.removing(self._kv, partition))
            return Planned(writes, [encode_drop(partition, tag) for partition in partitions])

        fences_settled = self._fence_settled(partitions)

        def settled(error: ObjstoreError | None) -> None:
            fences_settled(error)
            for partition in partitions:
                self._dropping[partition] -= 1
                if not self._dropping[partition]:
                    del self._dropping[partition]
                if error is None:
                    self._counts[partition] = self._digests[partition] = self._live[partition] = 0
                    self.changes[partition] += 1
                else:
                    self._reread_floor(partition)

        done = self._commits.submit(plan=plan, settled=settled)
        for partition in partitions:
            self._fences[partition] = tag
            self._floors.pop(partition, None)
            self._dropping[partition] = self._dropping.get(partition, 0) + 1
        gone = {rows.place_of(partition, b"") for partition in partitions}
        for place in [place for place in self._queued if place[:2] in gone]:
            del self._queued[place]
        return done

    def _fence_settled(self, partitions: Sequence[int]) -> Callable[[ObjstoreError | None], None]:
        def settled(error: ObjstoreError | None) -> None:
            if error is not None and self._commits.fatal is None:
                for partition in partitions:
                    self._fences[partition] = rows.read_fence(self._kv, partition)

        return settled

    # --- inside --------------------------------------------------------------------------------------------

    def _fence(self, partition: int) -> int:
        if partition >= self.partitions:
            raise InvalidRequest(f"partition {partition} does not exist: this cluster has {self.partitions}")
        return self._fences[partition]

    def _stale(self, partition: int) -> RegStale:
        return RegStale(self._fences[partition])

    def _floor(self, partition: int) -> Ballot:
        return self._floors.get(partition, ZERO)

    def _report(self, partition: int, held: Held) -> RegState:
        if held.acceptor.accepted == ZERO:
            return RegState(_ZERO, b"", b"", self._floor(partition).pack())
        return RegState(held.acceptor.accepted.pack(), held.listing, held.state)

    def _current(self, partition: int, place: bytes) -> Held:
        held = self._queued.get(place)
        if held is not None:
            return held
        return NOTHING if partition in self._dropping else rows.load(self._kv, place, ahead=self._commits.ahead)

    def _put(
        self, partition: int, tag: int, changed: list[tuple[bytes, Held, Held]], told: Sequence[bytes] = ()
    ) -> asyncio.Future[None]:
        """Queue new states (place, before, after); NOTHING is no row, and `told` are its records in the journal.
        Counts and digests follow once they are durable."""
        writes: list[Write] = []
        records = list(told)
        born = accepted = digest = grown = 0
        light = True
        for place, before, after in changed:
            writes += rows.removal(place, before) if after == NOTHING else rows.writes_for(place, after, before)
            old, new = before.acceptor.accepted, after.acceptor.accepted
            if old != new:
                accepted += 1
                born += (old == ZERO) - (new == ZERO)
                digest ^= _digest(place, after) ^ _digest(place, before)
                grown += _record_length(place, after) - _record_length(place, before)
                if new != ZERO:
                    records.append(encode_value(partition, tag, place[2:], new.pack(), *after[1:]))
            elif after != NOTHING:
                records.append(encode_promise(partition, place[2:], after.acceptor.promised.pack()))
            light = light and after != NOTHING

        def settled(error: ObjstoreError | None) -> None:
            for place, _, after in changed:
                if self._queued.get(place) is after:
                    del self._queued[place]
            if error is None:
                self._counts[partition] += born
                self._digests[partition] ^= digest
                self._live[partition] += grown
                self.changes[partition] += accepted

        done = self._commits.submit(writes, records=records, light=light, settled=settled)
        for place, _, after in changed:
            self._queued[place] = after
        return done


def _ballot(raw: bytes) -> Ballot:
    if raw == _ZERO:
        raise InvalidRequest("the zero ballot means 'nothing'; a round needs a real one")
    return Ballot.unpack(raw)


def _check_value(listing: bytes, state: bytes, data_length: int) -> None:
    if len(listing) > LISTING_BYTES_MAX or len(listing) + len(state) + data_length > VALUE_BYTES_MAX:
        raise InvalidRequest(
            f"a register value has at most {VALUE_BYTES_MAX} bytes, {LISTING_BYTES_MAX} of them listing; "
            f"this one has {len(listing)} + {len(state)} + {data_length}"
        )


def _is_empty(held: Held) -> bool:
    """Nobody could tell it from an absent register: nothing accepted, or a tombstone."""
    if held.listing or held.data:
        return False
    try:
        return not held.state or not decode(held.state, Register).body
    except msgspec.DecodeError:
        return False


def _digest(place: bytes, held: Held) -> int:
    return 0 if held.acceptor.accepted == ZERO else _hash(place[2:], held.acceptor.accepted.pack())


def _record_length(place: bytes, held: Held) -> int:
    if held.acceptor.accepted == ZERO:
        return 0
    return value_length(len(place) - 2, len(held.listing), len(held.state), len(held.data))


def _hash(key: bytes, ballot: bytes) -> int:
    return xxhash.xxh3_64_intdigest(key + ballot)

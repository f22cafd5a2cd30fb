"""Buckets: one register each in the system bucket, and how a bucket is deleted without losing an object.

INV-8: an object whose write was acknowledged is never in a deleted bucket. DeleteBucket marks the bucket, then
looks whether it is empty, then removes it if the mark is still there. A writer commits its object, then reads
the bucket: no mark, then the deleter's look comes after the commit and finds the object; a mark, then the
writer takes it away (its object proves the bucket not empty) and the deleter gives up; gone or another id,
then the write is refused. No clock takes part. The writer's reads are shared by all writes that wait.

Uploads die with their bucket, and a refused write leaves its object behind. The change that removes the bucket puts
its id on the name's list of ended ones: that is the proof by which garbage collection takes all of it away
(objstore/repair/endings.py), whoever has the name next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from objstore.engine.listing import scan_all
from objstore.engine.peers import Peers
from objstore.engine.registers import Registers
from objstore.engine.types import BucketInfo
from objstore.model.errors import BucketAlreadyExists, BucketNotEmpty, NoSuchBucket
from objstore.model.ids import SYSTEM_BUCKET, BucketId, uuid7
from objstore.model.limits import BUCKET_SHARDS
from objstore.model.records import BucketState, ListEntry, RegisterKey, Space, decode, encode
from objstore.ports import Clock, Random
from objstore.register.change import Outcome, body_of

CACHE_S = 2.0  # how long a bucket is taken from memory; commits are checked against the register all the same


class Buckets:
    def __init__(self, registers: Registers, peers: Peers, clock: Clock, random: Random) -> None:
        self._registers = registers
        self._peers = peers
        self._clock = clock
        self._random = random
        self._cache: dict[str, tuple[float, BucketState]] = {}
        self._confirmations: dict[str, _Shared[BucketState | None]] = {}

    async def create(self, name: str) -> BucketInfo:
        now = self._clock.wall_ms()
        new = BucketState(BucketId(uuid7(now, self._random.bytes(10))), now, BUCKET_SHARDS)

        def change(body: bytes) -> Outcome:
            if living(body) is not None:
                raise BucketAlreadyExists(f"bucket {name!r} exists already")
            return _written(msgspec.structs.replace(new, ended=ended_in(body)))

        await self._registers.change(_key(name), change)
        self._remember(name, new)
        return BucketInfo(name, new.id, new.created_ms)

    async def get(self, name: str, *, fresh: bool = False) -> BucketState:
        """NoSuchBucket if there is none. Without `fresh` the answer may be CACHE_S old."""
        known = self._cache.get(name)
        if known is not None and not fresh and self._clock.monotonic() < known[0]:
            return known[1]
        state = await self._read(name)
        if state is None:
            raise NoSuchBucket(f"bucket {name!r} does not exist")
        return state

    async def confirm(self, name: str, bucket: BucketId) -> None:
        """After a commit: the bucket must still be the one that was written to."""
        shared = self._confirmations.setdefault(name, _Shared(lambda: self._read(name)))
        state = await shared.run()
        if state is not None and state.id == bucket and state.deleting:
            state = await self._keep(name, bucket)
        if state is None or state.id != bucket:
            self._cache.pop(name, None)
            raise NoSuchBucket(f"bucket {name!r} was deleted while this request ran")

    async def still(self, name: str, bucket: BucketId) -> None:
        """After a change that no deleter has to see (of an upload): the bucket must still be there."""
        shared = self._confirmations.setdefault(name, _Shared(lambda: self._read(name)))
        state = await shared.run()
        if state is None or state.id != bucket:
            self._cache.pop(name, None)
            raise NoSuchBucket(f"bucket {name!r} was deleted while this request ran")

    async def _keep(self, name: str, bucket: BucketId) -> BucketState | None:
        """Take a deleter's mark away."""

        def change(body: bytes) -> Outcome:
            state = living(body)
            if state is None or state.id != bucket or not state.deleting:
                return Outcome()
            return _written(msgspec.structs.replace(state, deleting=b""))

        await self._registers.change(_key(name), change)
        return await self._read(name)

    async def delete(self, name: str) -> None:
        """NoSuchBucket, or BucketNotEmpty when an object is in it (open multipart uploads die with it)."""
        token = self._random.bytes(8)

        def mark(body: bytes) -> Outcome:
            state = living(body)
            if state is None:
                raise NoSuchBucket(f"bucket {name!r} does not exist")
            return _written(msgspec.structs.replace(state, deleting=token), state.id)

        bucket = BucketId(await self._registers.change(_key(name), mark))
        if await scan_all(self._registers, self._peers, bucket, Space.OBJECT, limit=1):
            await self._keep(name, bucket)
            raise BucketNotEmpty(f"bucket {name!r} is not empty; delete its objects first")

        def remove(body: bytes) -> Outcome:
            state = living(body)
            if state is None or state.id != bucket:
                raise NoSuchBucket(f"bucket {name!r} does not exist")
            if state.deleting != token:
                raise BucketNotEmpty(f"bucket {name!r} is being written to; it was kept")
            return Outcome(b"", encode(nobody((*state.ended, bucket))))

        self._cache.pop(name, None)
        await self._registers.change(_key(name), remove)

    async def list(self) -> list[BucketInfo]:
        """All buckets by name."""
        found = await scan_all(self._registers, self._peers, SYSTEM_BUCKET, Space.BUCKET)
        names = [name.decode() for name, _ in found]
        states = await asyncio.gather(*(self._read(name) for name in names))
        return [
            BucketInfo(name, state.id, state.created_ms)
            for name, state in zip(names, states, strict=True)
            if state is not None
        ]

    async def _read(self, name: str) -> BucketState | None:
        state = living(body_of(await self._registers.read(_key(name))))
        if state is None:
            self._cache.pop(name, None)
            return None
        self._remember(name, state)
        return state

    def _remember(self, name: str, state: BucketState) -> None:
        self._cache[name] = (self._clock.monotonic() + CACHE_S, state)


def living(body: bytes) -> BucketState | None:
    """The bucket that has the name, from the body of the name's register."""
    state = decode(body, BucketState) if body else None
    return state if state is not None and state.id else None


def ended_in(body: bytes) -> tuple[BucketId, ...]:
    return decode(body, BucketState).ended if body else ()


def nobody(ended: tuple[BucketId, ...]) -> BucketState:
    """A name that no bucket has."""
    return BucketState(BucketId(b""), 0, 0, b"", ended)


def without_ended(body: bytes, bucket: BucketId) -> Outcome:
    """Nothing is left of that bucket: forget that it was."""
    if bucket not in ended_in(body):
        return Outcome()
    state = decode(body, BucketState)
    left = msgspec.structs.replace(state, ended=tuple(one for one in state.ended if one != bucket))
    if state.id:
        return _written(left)
    return Outcome(b"", encode(left) if left.ended else b"")


def _written(state: BucketState, result: bytes = b"") -> Outcome:
    return Outcome(result, encode(state), encode(ListEntry(0, "", state.created_ms)))


def _key(name: str) -> RegisterKey:
    return RegisterKey(SYSTEM_BUCKET, Space.BUCKET, name.encode())


T = TypeVar("T")


class _Shared(Generic[T]):
    """Runs one coroutine at a time for all callers; who comes while it runs shares the run after it.

    So every answer comes from a run that began after its caller asked.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def run(self) -> T:
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._once())
            return await asyncio.shield(self._running)
        if self._next is None or self._next.done():
            self._next = asyncio.ensure_future(self._after(self._running))
        return await asyncio.shield(self._next)

    async def _once(self) -> T:
        return await self._work()

    async def _after(self, before: asyncio.Task[T]) -> T:
        await asyncio.wait((before,))
        self._running, self._next = asyncio.current_task(), None
        return await self._work()

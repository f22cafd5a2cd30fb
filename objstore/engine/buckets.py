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
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from objstore.engine.registers import Registers
from objstore.engine.types import BucketInfo
from objstore.model.errors import BucketAlreadyExists, BucketNotEmpty, NoSuchBucket
from objstore.model.ids import SYSTEM_BUCKET, BucketId, uuid7
from objstore.model.limits import BUCKET_SHARDS
from objstore.model.records import BucketState, ListEntry, RegisterKey, Space, decode, encode
from objstore.ports import Clock, Random
from objstore.register.change import Outcome, body_of

ENABLED, SUSPENDED = "Enabled", "Suspended"

CACHE_S = 2.0  # how long a bucket is taken from memory; commits are checked against the register all the same


class Buckets:
    def __init__(self, registers: Registers, clock: Clock, random: Random) -> None:
        self._registers = registers
        self._clock = clock
        self._random = random
        self._cache: dict[str, tuple[float, BucketState]] = {}
        self._confirmations: dict[str, _Shared[BucketState | None]] = {}

    async def create(
        self, name: str, *, owner: str = "", versioning: str = "", config: Mapping[str, bytes] | None = None
    ) -> BucketInfo:
        now = self._clock.wall_ms()
        id = BucketId(uuid7(now, self._random.bytes(10)))
        new = BucketState(id, now, BUCKET_SHARDS, versioning=versioning, owner=owner, config=dict(config or {}))

        def change(body: bytes) -> Outcome:
            if living(body) is not None:
                raise BucketAlreadyExists(f"bucket {name!r} exists already")
            return _written(msgspec.structs.replace(new, ended=ended_in(body)))

        await self._registers.change(_key(name), change)
        self._remember(name, new)
        return bucket_info(name, new)

    async def configure(self, name: str, edit: Callable[[BucketState], BucketState]) -> BucketInfo:
        """Change what is configured. `edit` is pure and may raise what a change function may."""

        def change(body: bytes) -> Outcome:
            state = living(body)
            if state is None:
                raise NoSuchBucket(f"bucket {name!r} does not exist")
            after = edit(state)
            assert (after.id, after.created_ms, after.shards) == (state.id, state.created_ms, state.shards)
            return _written(after) if after != state else Outcome()

        await self._registers.change(_key(name), change)
        return bucket_info(name, await self.get(name, fresh=True))

    async def get(self, name: str, *, fresh: bool = False) -> BucketState:
        """NoSuchBucket if there is none. Without `fresh` the answer may be CACHE_S old."""
        known = self._cache.get(name)
        if known is not None and not fresh and self._clock.monotonic() < known[0]:
            return known[1]
        return await self._latest(name)

    @contextlib.asynccontextmanager
    async def asking(self, name: str) -> AsyncIterator[asyncio.Future[BucketState]]:
        """The bucket as it is at some moment from now on; found out while the body of this statement runs."""
        future = asyncio.ensure_future(self._latest(name))
        try:
            yield future
        finally:
            future.cancel()
            await asyncio.wait((future,))
            if not future.cancelled():
                future.exception()  # whoever did not wait for it has an error of its own

    async def _latest(self, name: str) -> BucketState:
        state = await self._shared_read(name)
        if state is None:
            raise NoSuchBucket(f"bucket {name!r} does not exist")
        return state

    def _shared_read(self, name: str) -> Awaitable[BucketState | None]:
        """A read that begins after this call; one for all who wait."""
        return self._confirmations.setdefault(name, _Shared(lambda: self._read(name))).run()

    async def confirm(self, name: str, bucket: BucketId) -> BucketState:
        """After a commit: the bucket must still be the one that was written to."""
        state = await self._shared_read(name)
        if state is not None and state.id == bucket and state.deleting:
            state = await self._keep(name, bucket)
        if state is None or state.id != bucket:
            self._cache.pop(name, None)
            raise NoSuchBucket(f"bucket {name!r} was deleted while this request ran")
        return state

    async def still(self, name: str, bucket: BucketId) -> None:
        """After a change that no deleter has to see (of an upload): the bucket must still be there."""
        state = await self._shared_read(name)
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
        if await self._holds_something(bucket):
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

    async def _holds_something(self, bucket: BucketId) -> bool:
        scan = self._registers.scan(bucket, Space.OBJECT, expect=1)
        while (pair := await scan.next()) is not None:
            if decode(pair[1], ListEntry).versions:
                return True
        return False

    async def list(self) -> list[BucketInfo]:
        """All buckets by name."""
        found = await self._registers.scan_all(SYSTEM_BUCKET, Space.BUCKET)
        names = [name.decode() for name, _ in found]
        states = await asyncio.gather(*(self._read(name) for name in names))
        return [bucket_info(name, state) for name, state in zip(names, states, strict=True) if state is not None]

    async def _read(self, name: str) -> BucketState | None:
        state = living(body_of(await self._registers.read(_key(name))))
        if state is None:
            self._cache.pop(name, None)
            return None
        self._remember(name, state)
        return state

    def _remember(self, name: str, state: BucketState) -> None:
        self._cache[name] = (self._clock.monotonic() + CACHE_S, state)


def bucket_info(name: str, state: BucketState) -> BucketInfo:
    return BucketInfo(name, state.id, state.created_ms, state.versioning, state.owner, state.config)


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


HELD_UP_S = 0.5  # for how long a read of a bucket may keep the next one waiting
T = TypeVar("T")


class _Shared(Generic[T]):
    """Runs one coroutine at a time for all callers; who comes while it runs shares the run after it.

    So every answer comes from a run that began after its caller asked. A run that takes long, as one that fails for
    want of a majority, does not hold up the next: a request would have to wait for two time-outs.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._running: asyncio.Future[T] | None = None
        self._next: asyncio.Future[T] | None = None

    async def run(self) -> T:
        if self._running is None:
            self._running = self._begun(self._work())
            return await asyncio.shield(self._running)
        if self._next is None:
            self._next = self._begun(self._after(self._running))
        return await asyncio.shield(self._next)

    def _begun(self, work: Awaitable[T]) -> asyncio.Future[T]:
        future = asyncio.ensure_future(work)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: asyncio.Future[T]) -> None:
        """Nothing is kept of how it ended: an error would keep the requests that it was raised in."""
        if self._running is future:
            self._running = None
        if self._next is future:
            self._next = None
        if not future.cancelled():
            future.exception()  # whoever waited may have gone

    async def _after(self, before: asyncio.Future[T]) -> T:
        await asyncio.wait((before,), timeout=HELD_UP_S)
        self._running, self._next = self._next, None
        return await self._work()

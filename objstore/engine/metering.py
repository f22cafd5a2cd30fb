"""Measures what writes add to buckets with a quota, and refuses what goes beyond (objstore/engine/quotas.py).

Registers of objects and parts are changed through `Metered`, so that whatever changes one is counted, exactly and where
it is decided. `Guarded` takes the room of a write before its body is read. A completed upload adds nothing: its parts
were counted when they came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast

from objstore.engine.buckets import ENABLED, Buckets
from objstore.engine.keystate import NULL, find, state_of
from objstore.engine.listing import BucketScan
from objstore.engine.quotas import Quotas
from objstore.engine.registers import Registers
from objstore.engine.types import ObjectInfo
from objstore.engine.uploadstate import part_key
from objstore.model import limits
from objstore.model.ids import BucketId
from objstore.model.quota import NOTHING, Need
from objstore.model.records import KeyState, PartState, RegisterKey, Space, Value, decode
from objstore.ports import Buffer
from objstore.register.change import Change, Outcome, body_of

Work = TypeVar("Work", bound=Callable[..., Awaitable[Any]])

ONE_OBJECT = Need(objects=1)


def added(space: Space, before: bytes, after: bytes) -> Need:
    """What a change of a register adds to its bucket. Pure."""
    if space is Space.PART:
        old, new = (decode(body, PartState).size if body else 0 for body in (before, after))
        return Need(new - old)
    old_state, new_state = state_of(before), state_of(after)
    known = {version.version_id for version in old_state.versions}
    made = sum(one.size for one in new_state.versions if one.upload_id and one.version_id not in known)
    return _use(new_state).minus(_use(old_state)).minus(Need(made))


def _use(state: KeyState) -> Need:
    sizes = [version.size for version in state.versions if not version.marker]
    return Need(sum(sizes), len(sizes))


class Metered:
    """As `Registers`."""

    def __init__(self, registers: Registers, quotas: Quotas) -> None:
        self._registers = registers
        self._quotas = quotas

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes:
        counts = key.space in (Space.OBJECT, Space.PART)
        ledger = await self._quotas.ledger(key.bucket) if counts else None
        if ledger is None:
            return await self._registers.change(key, change, op=op, born=born, above=above)
        more = NOTHING

        def watched(body: bytes) -> Outcome:
            nonlocal more
            outcome = change(body)
            more = added(key.space, body, outcome.body) if outcome.body is not None else NOTHING
            self._quotas.admit(ledger, more)
            return outcome

        result = await self._registers.change(key, watched, op=op, born=born, above=above)
        self._quotas.spend(ledger, more)
        return result

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value:
        return await self._registers.read(key, with_data=with_data)

    def scan(
        self,
        bucket: BucketId,
        space: Space,
        *,
        start: bytes = b"",
        end: bytes = b"",
        expect: int = limits.LIST_PAGE_MAX,
    ) -> BucketScan:
        return self._registers.scan(bucket, space, start=start, end=end, expect=expect)

    async def scan_all(
        self, bucket: BucketId, space: Space, *, start: bytes = b"", end: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        return await self._registers.scan_all(bucket, space, start=start, end=end, limit=limit)

    def id_ms(self) -> int:
        return self._registers.id_ms()


class Guarded:
    """Operations that add to a bucket, within its quota. Their arguments are those of what they guard."""

    def __init__(self, registers: Registers, buckets: Buckets, quotas: Quotas) -> None:
        self._registers = registers
        self._buckets = buckets
        self._quotas = quotas

    def put(self, work: Work) -> Work:
        async def guarded(
            bucket_name: str, key: str, body: AsyncIterator[Buffer], size: int, *rest: Any, **options: Any
        ) -> Any:
            bucket = await self._buckets.get(bucket_name)
            ledger = self._quotas.know(bucket_name, bucket)
            if ledger is None:
                return await work(bucket_name, key, body, size, *rest, **options)

            async def exactly() -> Need:
                if bucket.versioning == ENABLED:
                    return Need(size, 1)
                found = await self._registers.read(RegisterKey(bucket.id, Space.OBJECT, key.encode()))
                old = find(state_of(body_of(found)), NULL)
                return Need(size - old.size, int(old.marker)) if old is not None else Need(size, 1)

            room = await self._quotas.room(bucket.id, ledger, Need(size, 1), exactly)
            with self._quotas.holding(ledger, room):
                return await work(bucket_name, key, body, size, *rest, **options)

        return cast(Work, guarded)

    def append(self, work: Work) -> Work:
        async def guarded(
            bucket_name: str,
            key: str,
            base: ObjectInfo | None,
            body: AsyncIterator[Buffer],
            size: int,
            *rest: Any,
            **options: Any,
        ) -> Any:
            bucket = await self._buckets.get(bucket_name)
            ledger = self._quotas.know(bucket_name, bucket)
            if ledger is None:
                return await work(bucket_name, key, base, body, size, *rest, **options)
            need = Need(size, int(base is None))

            async def exactly() -> Need:
                return need

            room = await self._quotas.room(bucket.id, ledger, need, exactly)
            with self._quotas.holding(ledger, room):
                return await work(bucket_name, key, base, body, size, *rest, **options)

        return cast(Work, guarded)

    def put_part(self, work: Work) -> Work:
        async def guarded(
            bucket_name: str,
            key: str,
            upload_id: str,
            number: int,
            body: AsyncIterator[Buffer],
            size: int,
            *rest: Any,
            **options: Any,
        ) -> Any:
            bucket = await self._buckets.get(bucket_name)
            ledger = self._quotas.know(bucket_name, bucket)
            if ledger is None:
                return await work(bucket_name, key, upload_id, number, body, size, *rest, **options)

            async def exactly() -> Need:
                try:
                    register = part_key(bucket.id, bytes.fromhex(upload_id), number)
                except ValueError:
                    return NOTHING  # there is no such upload: it will be said
                found = body_of(await self._registers.read(register))
                return Need(size - decode(found, PartState).size if found else size)

            room = await self._quotas.room(bucket.id, ledger, Need(size), exactly)
            with self._quotas.holding(ledger, room):
                return await work(bucket_name, key, upload_id, number, body, size, *rest, **options)

        return cast(Work, guarded)

    def complete(self, work: Work) -> Work:
        async def guarded(bucket_name: str, *rest: Any, **options: Any) -> Any:
            self._quotas.know(bucket_name, await self._buckets.get(bucket_name))  # judged where it is decided
            return await work(bucket_name, *rest, **options)

        return cast(Work, guarded)

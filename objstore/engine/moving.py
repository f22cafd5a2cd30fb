"""Registers of object keys as operations on objects need them: a rename that is on its way is settled first.

See engine/movestate.py for what a rename leaves in the registers, engine/renaming.py for the rename itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import msgspec

from objstore.engine.keystate import (
    announced,
    beside,
    floor_above,
    removed,
    settled_state,
    state_of,
    turned,
    written,
)
from objstore.engine.movestate import (
    StillLeaving,
    departed,
    has_arrived,
    lent_ids,
    moves_of,
    received,
    returned,
    stayed,
)
from objstore.model import limits
from objstore.model.errors import Unavailable
from objstore.model.ids import BlobId, BucketId, uuid7_ms
from objstore.model.records import KeyState, Leaving, Lent, RegisterKey, Retired, Space, Value
from objstore.ports import Clock
from objstore.register.change import Change, Outcome, body_of

PATIENCE_S = 1.0  # how long a rename that is on its way may go on before it is refused
PAUSE_S = 0.02
_MADE, _NEVER = b"made", b"never"


class Changing(Protocol):
    """Part of `objstore.engine.registers.Registers`."""

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value: ...

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes: ...


def object_key(bucket: BucketId, key: bytes) -> RegisterKey:
    return RegisterKey(bucket, Space.OBJECT, key)


# --- the ends of renames: for gateways, and for the repairer where a gateway died


async def settle(registers: Changing, key: RegisterKey, leaving: Leaving, now_ms: int) -> None:
    """Done, if it has arrived; refused for ever, if not."""
    target = object_key(key.bucket, leaving.to)
    if await registers.change(target, _decided(leaving.id), above=floor_above(leaving.id)) == _MADE:
        await finish(registers, key, leaving, now_ms)
    else:
        await registers.change(key, _staying(leaving.id))


async def abandon(registers: Changing, key: RegisterKey, id: bytes, homes: Iterable[bytes], now_ms: int) -> None:
    """Of a rename that was refused by its target, or did not get as far: nothing is left of it."""
    await registers.change(key, _staying(id))
    for home in homes:
        await registers.change(object_key(key.bucket, home), _returning(id, None, now_ms))


async def finish(registers: Changing, key: RegisterKey, leaving: Leaving, now_ms: int) -> None:
    """Of a rename that was made: the source lets go, then the target forgets it."""
    await registers.change(key, _departing(leaving, now_ms))
    await registers.change(object_key(key.bucket, leaving.to), _receiving(leaving.id))


async def forget_arrivals(registers: Changing, key: RegisterKey, state: KeyState, before_ms: int, now_ms: int) -> None:
    """Those whose source has let go already, or does it now. `before_ms`: of renames that began before."""
    for one in moves_of(state).arrived:
        if uuid7_ms(one.id) <= before_ms:
            source = object_key(key.bucket, one.source)
            leaving = moves_of(state_of(body_of(await registers.read(source)))).leaving
            if leaving is not None and leaving.id == one.id:
                await finish(registers, source, leaving, now_ms)
            else:  # it arrived, so it was leaving: now it is not, so it has left
                await registers.change(key, _receiving(one.id))


async def take_back(registers: Changing, home: RegisterKey, lent: Lent, now_ms: int) -> bool:
    """What the other key does not name any more, and cannot: it becomes garbage, unless something else needs it.
    False: there is nothing."""
    target = object_key(home.bucket, lent.to)
    if lent.blobs and await _unnamed(registers, target, lent):
        if not lent.made:
            await registers.change(target, _decided(lent.id), above=floor_above(lent.id))
        back = await _unnamed(registers, target, lent)
        if back:
            await registers.change(home, _returning(lent.id, back, now_ms))
            return True
    return False


async def _unnamed(registers: Changing, target: RegisterKey, lent: Lent) -> frozenset[BlobId]:
    state = state_of(body_of(await registers.read(target)))
    named = {blob.id for version in state.versions for blob in version.blobs}
    return frozenset(blob.id for blob in lent.blobs if blob.id not in named)


def _decided(id: bytes) -> Change:
    """Made or never: one of both for ever."""

    def change(body: bytes) -> Outcome:
        state = state_of(body)
        return Outcome(_MADE) if has_arrived(state, id) else beside(state, _NEVER, ids_floor=floor_above(id))

    return change


def _departing(leaving: Leaving, now_ms: int) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        if moves_of(state).leaving != leaving:
            return Outcome()
        version = next(one for one in state.versions if one.version_id == leaving.version)
        after = removed(departed(state, leaving.id), version, now_ms, leaving.migration)
        for event in leaving.events:
            after = announced(after, event)
        return written(state, after)

    return change


def _staying(id: bytes) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        return turned(state, stayed(state, id))

    return change


def _receiving(id: bytes) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        return turned(state, received(state, id))

    return change


def _returning(id: bytes, blobs: frozenset[BlobId] | None, now_ms: int) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        after, garbage = returned(state, id, lent_ids(state) if blobs is None else blobs)
        retired = (*after.retired, *(Retired(blob, now_ms) for blob in garbage))
        return turned(state, msgspec.structs.replace(after, retired=retired))

    return change


class ObjectKeys:
    """As `Registers`, for the keys of objects. `settling`: where renames of others are settled: as they were begun,
    with nothing counted for them."""

    def __init__(self, registers: Changing, settling: Changing, clock: Clock) -> None:
        self._registers = registers
        self._settling = settling
        self._clock = clock

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes:
        """Of a change that raises StillLeaving: again, once that is settled."""
        deadline = self._clock.monotonic() + limits.OPERATION_TIMEOUT_S
        while True:
            try:
                return await self._registers.change(key, change, op=op, born=born, above=above)
            except StillLeaving as found:
                if self._clock.monotonic() >= deadline:
                    raise Unavailable(f"the object {key.name!r} is renamed again and again; try later") from None
                leaving = found.leaving
            await self._settle(key, leaving)

    async def look(self, key: RegisterKey) -> tuple[Value, KeyState]:
        """The value with its data, and its state; what has arrived elsewhere is not there any more."""
        value = await self._registers.read(key, with_data=True)
        state = state_of(body_of(value))
        while (going := moves_of(state).leaving) is not None:
            there = state_of(body_of(await self._settling.read(object_key(key.bucket, going.to))))
            if has_arrived(there, going.id):
                gone = tuple(one for one in state.versions if one.version_id != going.version)
                return value, msgspec.structs.replace(state, versions=gone, gone=going.migration)
            before = going
            value = await self._registers.read(key, with_data=True)
            state = state_of(body_of(value))
            if moves_of(state).leaving == before:
                break  # the target was asked while the source had not let go: it has not arrived
        return value, state

    async def _settle(self, key: RegisterKey, leaving: Leaving) -> None:
        """Whoever began it has some time to end it."""
        deadline = self._clock.monotonic() + PATIENCE_S
        while self._clock.monotonic() < deadline:
            there = state_of(body_of(await self._settling.read(object_key(key.bucket, leaving.to))))
            if has_arrived(there, leaving.id):
                break
            await asyncio.sleep(PAUSE_S)
            try:
                settled_state(body_of(await self._settling.read(key)))
            except StillLeaving as found:
                if found.leaving == leaving:
                    continue
            return
        await settle(self._settling, key, leaving, self._clock.wall_ms())

"""What may happen to the state of an object key. Pure; the change functions of engine and repair are made of these.

`attempts` lists the completions of multipart uploads that may make the object. One that is not listed cannot: a late
repeat by a gateway that was paused finds its entry gone, and nothing has to be remembered for ever to refuse it. An
entry is listed before the upload names it, marked when the object is made (in the same change), and goes when it is
given up, or when the upload's own register says that it has ended (objstore/repair/endings.py).

What an unfinished PUT has stored is given up by the register's `ids_floor` (objstore/register/change.py).
"""

from __future__ import annotations

import msgspec

from objstore.model.ids import uuid7_ms
from objstore.model.manifest import BlobRef
from objstore.model.records import Attempt, KeyState, ListEntry, ObjectVersion, Retired, decode, encode
from objstore.register.change import Outcome


def state_of(body: bytes) -> KeyState:
    """Of a register's body; an absent or deleted key is the empty state."""
    return decode(body, KeyState) if body else KeyState()


def body_with(state: KeyState) -> bytes:
    """The body of a register; a tombstone when nothing is left to be known."""
    return encode(state) if state != KeyState() else b""


def current(state: KeyState) -> ObjectVersion | None:
    return state.versions[0] if state.versions else None


def replace(state: KeyState, version: ObjectVersion | None, now_ms: int) -> KeyState:
    """`version` (None: nothing) becomes current; what it does not use of the old one is retired."""
    old = current(state)
    kept = {blob.id for blob in version.blobs} if version is not None else set()
    retired = [Retired(blob, now_ms) for blob in old.blobs if blob.id not in kept] if old is not None else []
    return KeyState((version,) if version else (), (*state.retired, *retired), state.attempts)


def attempt_of(state: KeyState, id: bytes) -> Attempt | None:
    return next((attempt for attempt in state.attempts if attempt.id == id), None)


def with_attempt(state: KeyState, attempt: Attempt) -> KeyState:
    """Listed, in place of what was known of it."""
    others = (one for one in state.attempts if one.id != attempt.id)
    return msgspec.structs.replace(state, attempts=(*others, attempt))


def without_attempts(state: KeyState, ids: frozenset[bytes]) -> KeyState:
    return msgspec.structs.replace(state, attempts=tuple(one for one in state.attempts if one.id not in ids))


def beside(state: KeyState, result: bytes = b"", *, ids_floor: int = 0) -> Outcome:
    """Write a state whose object is the one that is there: its listing and inline data stay."""
    return Outcome(result, body_with(state), listing_of(current(state)), None, ids_floor)


def turned(before: KeyState, after: KeyState) -> Outcome:
    """As `beside`, of `after`; no write when that is what is there."""
    return beside(after) if after != before else Outcome()


def listing_of(version: ObjectVersion | None) -> bytes:
    return encode(ListEntry(version.size, version.etag, version.modified_ms)) if version else b""


def born_of(blobs: tuple[BlobRef, ...]) -> int | None:
    """The ballot time at which the oldest of these ids was made; None: there are none."""
    return min((uuid7_ms(blob.id) << 16 for blob in blobs), default=None)


def floor_above(id: bytes) -> int:
    """The ballot time up to which operations are refused that name this id, or an older one."""
    return uuid7_ms(id) << 16

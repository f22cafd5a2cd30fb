"""What may happen to the state of an object key. Pure; the change functions of engine and repair are made of these.

Versions are newest first, in the order of their commits. A version that was written while its bucket was not versioned
(or no longer) is the key's *null* version: a later one of its kind takes its place, and never that of any other. So a
writer that does not know yet that the bucket became versioned can destroy nothing that was written since (INV-18).

`attempts` lists the completions of multipart uploads that may make the object. One that is not listed cannot: a late
repeat by a gateway that was paused finds its entry gone, and nothing has to be remembered for ever to refuse it. An
entry is listed before the upload names it, marked when the object is made (in the same change), and goes when it is
given up, or when the upload's own register says that it has ended (objstore/repair/endings.py).

`events` are the writes of which targets of the bucket are still to be told. One is added by the change that makes the
write and taken away by one that knows the answers, so a write is never there without its event (INV-20). It is named by
the ballot of its write, which rises with every write of the key, also over its deletion. Past EVENTS_PER_KEY_MAX the
oldest go, and the next one says how many: the last one of a key, which tells what became of it, is never among them.

`gone` says that a key was deleted while its bucket was migrated from another service, which still has it. A scan of the
bucket finds such a key, hidden and without versions, so that a list of both knows what not to show.

What an unfinished PUT has stored is given up by the register's `ids_floor` (objstore/register/change.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from objstore.engine.movestate import StillLeaving, lent_ids, own_blobs
from objstore.model import limits
from objstore.model.errors import ObjectLocked, TooManyVersions
from objstore.model.ids import uuid7_ms
from objstore.model.manifest import BlobRef
from objstore.model.notification import Delivery, Event
from objstore.model.records import Attempt, KeyState, ListEntry, Lock, ObjectVersion, Retired, decode, encode
from objstore.register.change import Outcome

NULL = "null"  # the version id of what was written without versioning
_CHECKSUM = "x-amz-checksum-"
_CHECKSUM_TYPE = "x-amz-checksum-type"


def state_of(body: bytes) -> KeyState:
    """Of a register's body; an absent or deleted key is the empty state."""
    return decode(body, KeyState) if body else KeyState()


def settled_state(body: bytes) -> KeyState:
    """As `state_of`, for what decides by the versions. StillLeaving while a rename of the key is on its way."""
    state = state_of(body)
    if state.moves is not None and state.moves.leaving is not None:
        raise StillLeaving(state.moves.leaving)
    return state


def body_with(state: KeyState) -> bytes:
    """The body of a register; a tombstone when nothing is left to be known."""
    return encode(state) if state != KeyState() else b""


# --- versions


def newest(state: KeyState) -> ObjectVersion | None:
    """Perhaps a delete marker."""
    return state.versions[0] if state.versions else None


def current(state: KeyState) -> ObjectVersion | None:
    """What a client sees under the key; None when there is nothing, or a delete marker says so."""
    version = newest(state)
    return None if version is None or version.marker else version


def shown_id(version: ObjectVersion) -> str:
    return NULL if version.null else version.version_id.hex()


def find(state: KeyState, version_id: str) -> ObjectVersion | None:
    return next((one for one in state.versions if shown_id(one) == version_id), None)


def placed(state: KeyState, version: ObjectVersion, now_ms: int) -> KeyState:
    """`version` becomes the newest; a null one takes the place of the null one before.

    ObjectLocked if that one must be kept, TooManyVersions."""
    old = find(state, NULL) if version.null else None
    if old is not None:
        check_unlocked(old.lock, now_ms, bypass=False)
    elif len(state.versions) >= limits.VERSIONS_MAX:
        raise TooManyVersions(f"the key has {len(state.versions)} versions and can hold no more; delete some of them")
    others = tuple(one for one in state.versions if one is not old)
    return _retiring(msgspec.structs.replace(state, gone=b""), (version, *others), old, now_ms)


def removed(state: KeyState, version: ObjectVersion, now_ms: int, migration: bytes = b"") -> KeyState:
    """Without this version, for good. `migration`: as of `buried`."""
    left = _retiring(state, tuple(one for one in state.versions if one is not version), version, now_ms)
    return buried(left, migration)


def buried(state: KeyState, migration: bytes) -> KeyState:
    """Of a key that was deleted: when nothing is left of it, that is remembered while its bucket is migrated (INV-21).

    `migration`: the id of that, b"" when there is none."""
    return msgspec.structs.replace(state, gone=b"" if state.versions else migration)


def amended(state: KeyState, before: ObjectVersion, after: ObjectVersion) -> KeyState:
    """What is known of a version changes, its bytes do not."""
    assert (before.version_id, before.blobs, inline_length(before)) == (
        after.version_id,
        after.blobs,
        inline_length(after),
    )
    versions = tuple(after if one is before else one for one in state.versions)
    return msgspec.structs.replace(state, versions=versions)


def _retiring(
    state: KeyState, versions: tuple[ObjectVersion, ...], gone: ObjectVersion | None, now_ms: int
) -> KeyState:
    kept = lent_ids(state) | {blob.id for version in versions for blob in version.blobs}
    blobs = own_blobs(gone) if gone is not None else ()
    retired = [Retired(blob, now_ms) for blob in blobs if blob.id not in kept]
    return msgspec.structs.replace(state, versions=versions, retired=(*state.retired, *retired))


def check_unlocked(lock: Lock, now_ms: int, *, bypass: bool) -> None:
    """ObjectLocked unless a version with this lock may be deleted. `bypass`: governance does not count."""
    if lock.hold:
        raise ObjectLocked("this version is under a legal hold")
    if lock.until_ms > now_ms and not (bypass and lock.mode == "GOVERNANCE"):
        raise ObjectLocked(f"this version is under {lock.mode.lower()} retention until its time has come")


# --- what is written


def inline_length(version: ObjectVersion) -> int:
    """Bytes of the version in the register's data."""
    return 0 if version.blobs or version.marker else version.inline or version.size


def inline_piece(state: KeyState, version: ObjectVersion) -> tuple[int, int]:
    """(offset, length) of the version's bytes in the register's data."""
    offset = 0
    for one in state.versions:
        if one.version_id == version.version_id:
            return offset, inline_length(one)
        offset += inline_length(one)
    raise AssertionError("the version is not of this state")


def has_inline_room(state: KeyState) -> bool:
    """Small bodies of all versions of a key lie together; False: this one has to lie elsewhere."""
    return len(state.versions) < 2 or sum(map(inline_length, state.versions)) <= limits.INLINE_KEPT_MAX


def written(before: KeyState, after: KeyState, data: bytes = b"", result: bytes = b"") -> Outcome:
    """`data`: the inline body of the version that `before` does not have. TooManyVersions when it is too much."""
    known = {one.version_id for one in before.versions}
    pieces = [inline_piece(before, one) for one in after.versions if one.version_id in known]
    kept = tuple(piece for piece in pieces if piece[1])
    body = body_with(after)
    if len(body) > limits.KEY_STATE_BYTES_MAX and len(after.versions) > len(before.versions):
        raise TooManyVersions("what is known of all versions of the key is too much; delete some of them")
    return Outcome(result, body, listing_of(after), data, kept, stamped=_stamping(after))


def beside(state: KeyState, result: bytes = b"", *, ids_floor: int = 0) -> Outcome:
    """Write a state whose versions are those that are there: listing and inline data stay."""
    return Outcome(result, body_with(state), listing_of(state), None, ids_floor=ids_floor, stamped=_stamping(state))


def turned(before: KeyState, after: KeyState, result: bytes = b"") -> Outcome:
    """As `beside`, of `after`; no write when that is what is there."""
    return beside(after, result) if after != before else Outcome(result)


def listing_of(state: KeyState) -> bytes:
    version = newest(state)
    if version is None:
        hidden = ListEntry(0, "", 0, version=state.gone, hidden=True, versions=0)
        return encode(hidden) if state.gone else b""
    entry = ListEntry(
        version.size,
        version.etag,
        version.modified_ms,
        shown_checksum(version),
        b"" if version.null else version.version_id,
        version.marker,
        len(state.versions),
    )
    return encode(entry)


def shown_checksum(version: ObjectVersion) -> str:
    """The algorithm, and the type after a space: what a list shows of a checksum."""
    for name in version.headers:
        if name.startswith(_CHECKSUM) and name != _CHECKSUM_TYPE:
            kind = version.headers.get(_CHECKSUM_TYPE, "")
            return f"{name.removeprefix(_CHECKSUM).upper()} {kind}".strip()
    return ""


# --- attempts


def attempt_of(state: KeyState, id: bytes) -> Attempt | None:
    return next((attempt for attempt in state.attempts if attempt.id == id), None)


def with_attempt(state: KeyState, attempt: Attempt) -> KeyState:
    """Listed, in place of what was known of it."""
    others = (one for one in state.attempts if one.id != attempt.id)
    return msgspec.structs.replace(state, attempts=(*others, attempt))


def without_attempts(state: KeyState, ids: frozenset[bytes]) -> KeyState:
    return msgspec.structs.replace(state, attempts=tuple(one for one in state.attempts if one.id not in ids))


def made_by(state: KeyState, upload: bytes) -> ObjectVersion | None:
    """The version that this upload made, while the key has it."""
    return next((one for one in state.versions if one.upload_id == upload), None) if upload else None


# --- events


def announced(state: KeyState, event: Event | None) -> KeyState:
    """With the event of the write that this change makes; its sequence is not known yet."""
    if event is None:
        return state
    assert not event.sequence
    events = (*state.events, event)
    return msgspec.structs.replace(state, events=_bounded(events))


def _bounded(events: tuple[Event, ...]) -> tuple[Event, ...]:
    over = len(events) - limits.EVENTS_PER_KEY_MAX
    if over <= 0:
        return events
    gone, left = events[:over], events[over:]
    omitted = left[0].omitted + sum(one.omitted + 1 for one in gone)
    return (msgspec.structs.replace(left[0], omitted=omitted), *left[1:])


def told(state: KeyState, answered: Mapping[bytes, Collection[Delivery]]) -> KeyState:
    """Without these deliveries, by the sequence of their event; an event goes with its last one."""
    events = []
    for event in state.events:
        done = answered.get(event.sequence, ())
        if left := tuple(one for one in event.open if one not in done):
            events.append(msgspec.structs.replace(event, open=left))
    return msgspec.structs.replace(state, events=tuple(events))


def _stamping(state: KeyState) -> Callable[[bytes], bytes] | None:
    if all(event.sequence for event in state.events):
        return None

    def stamped(ballot: bytes) -> bytes:
        events = (one if one.sequence else msgspec.structs.replace(one, sequence=ballot) for one in state.events)
        return body_with(msgspec.structs.replace(state, events=tuple(events)))

    return stamped


# --- ids


def born_of(blobs: tuple[BlobRef, ...]) -> int | None:
    """The ballot time at which the oldest of these ids was made; None: there are none."""
    return min((uuid7_ms(blob.id) << 16 for blob in blobs), default=None)


def floor_above(id: bytes) -> int:
    """The ballot time up to which operations are refused that name this id, or an older one."""
    return uuid7_ms(id) << 16

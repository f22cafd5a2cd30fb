"""What may happen to the state of an object key. Pure; the change functions of engine and repair are made of these.

`abandoned` holds ids that must never be committed to this key (again): blobs that garbage collection has given
up, attempts to complete a multipart upload that were overtaken, and uploads whose object was replaced since
(their blobs are retired, so a late repeat of their Complete must not bring them back).
"""

from __future__ import annotations

from objstore.model.ids import BlobId
from objstore.model.records import KeyState, ListEntry, ObjectVersion, Retired, decode, encode
from objstore.register.change import Outcome

ABANDONED_MAX = 256  # per key; the oldest go first


def state_of(body: bytes) -> KeyState:
    """Of a register's body; an absent or deleted key is the empty state."""
    return decode(body, KeyState) if body else KeyState()


def current(state: KeyState) -> ObjectVersion | None:
    return state.versions[0] if state.versions else None


def replace(state: KeyState, version: ObjectVersion | None, now_ms: int) -> KeyState:
    """`version` (None: nothing) becomes current; what it does not use of the old one is retired."""
    old = current(state)
    if old is None:
        return KeyState((version,) if version else (), state.retired, state.abandoned)
    kept = {blob.id for blob in version.blobs} if version is not None else set()
    retired = [Retired(blob, now_ms) for blob in old.blobs if blob.id not in kept]
    again = version is not None and version.upload_id == old.upload_id
    spent = [BlobId(old.upload_id)] if old.upload_id and not again else []
    abandoned = (*state.abandoned, *spent)[-ABANDONED_MAX:]
    return KeyState((version,) if version else (), (*state.retired, *retired), abandoned)


def abandon(state: KeyState, id: bytes) -> KeyState:
    """`id` (of a blob, an attempt or an upload) will never be committed to this key."""
    return KeyState(state.versions, state.retired, (*state.abandoned, BlobId(id))[-ABANDONED_MAX:])


def is_abandoned(state: KeyState, version: ObjectVersion, attempt: bytes) -> bool:
    given_up = set(state.abandoned)
    return not given_up.isdisjoint((attempt, version.upload_id, *(blob.id for blob in version.blobs)))


def beside(state: KeyState, result: bytes = b"") -> Outcome:
    """Write a state whose object is the one that is there: its listing and inline data stay."""
    version = current(state)
    return Outcome(result, encode(state) if state != KeyState() else b"", listing_of(version), None)


def listing_of(version: ObjectVersion | None) -> bytes:
    return encode(ListEntry(version.size, version.etag, version.modified_ms)) if version else b""

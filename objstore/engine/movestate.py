"""What renaming does to the states of the keys that take part in it. Pure.

A rename moves no byte: the version appears under the target with the blobs that were stored under another key, their
*home*, and the source lets go of it. What is stored says of itself under which key it was (its envelopes do), so the
register of the home stays the one that is asked whether a blob is garbage. It lends it:

    lent      at the home: these blobs may be named by that key. It is there before the target names them, and goes
              when the target does not and cannot any more. Until then they are neither retired nor orphans.
    leaving   at the source: this version goes, as soon as the target has it. Nobody changes the key until that is
              settled, and who reads it asks the target first.
    arrived   at the target, put there by the very change that makes the version: the rename is done, which is what all
              others look at. It goes when the source has let go.

INV-24: a version that names a blob of another key is covered there by a `Lent` with its key, from before it is made
until after it is gone.
INV-25: at each moment exactly one of source and target shows the version. What becomes of a rename whose gateway dies
is settled by whoever needs to know: it is done if it has arrived, and if not, the target refuses it for ever
(`ids_floor`), and the source keeps what it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby

import msgspec

from objstore.model.errors import Conflict, TooManyRenames
from objstore.model.ids import BlobId
from objstore.model.manifest import BlobRef
from objstore.model.records import NO_MOVES, Arrived, Borrowed, KeyState, Leaving, Lent, Moves, ObjectVersion

LENT_MAX = 500  # of one key: its register holds what is known of all of them, and is written whole
LENT_BLOBS_MAX = 30_000  # ... and the same of their blobs, some 45 bytes each


class StillLeaving(Conflict):
    """A rename of the key is on its way, and has to be settled before anything else is decided."""

    def __init__(self, leaving: Leaving) -> None:
        super().__init__("the object is being renamed")
        self.leaving = leaving


class NotCovered(Conflict):
    """The home does not answer for these blobs any more: whoever named them has gone."""


# --- whose a blob is


def homes_of(version: ObjectVersion, key: bytes) -> tuple[bytes, ...]:
    """Of each blob of a version of `key`."""
    if not version.borrowed:
        return (key,) * len(version.blobs)
    return tuple(run.home or key for run in version.borrowed for _ in range(run.blobs))


def borrowed_from(homes: Iterable[bytes], key: bytes) -> tuple[Borrowed, ...]:
    """The inverse of `homes_of`."""
    runs = [(home, len(list(run))) for home, run in groupby(homes)]
    return tuple(Borrowed(b"" if home == key else home, count) for home, count in runs) if {*homes} - {key} else ()


def own_blobs(version: ObjectVersion) -> tuple[BlobRef, ...]:
    """Those that were stored under the version's key."""
    return tuple(blob for blob, home in zip(version.blobs, homes_of(version, b""), strict=True) if not home)


def lent_ids(state: KeyState) -> set[BlobId]:
    return {blob.id for one in moves_of(state).lent for blob in one.blobs}


# --- the states


def moves_of(state: KeyState) -> Moves:
    return state.moves or NO_MOVES


def has_arrived(state: KeyState, id: bytes) -> bool:
    return any(one.id == id for one in moves_of(state).arrived)


def lending(state: KeyState, id: bytes, to: bytes, blobs: Collection[BlobRef]) -> KeyState:
    """The home lends these blobs. NotCovered, TooManyRenames."""
    moves = moves_of(state)
    covered = lent_ids(state) | {blob.id for version in state.versions for blob in own_blobs(version)}
    if not covered.issuperset(blob.id for blob in blobs):
        raise NotCovered("the object was written anew or deleted while it was renamed")
    many = sum(len(one.blobs) for one in moves.lent)
    if len(moves.lent) >= LENT_MAX or many + len(blobs) > LENT_BLOBS_MAX:
        text = f"{len(moves.lent)} objects that were renamed have their bytes from this key"
        raise TooManyRenames(f"{text}; copy the object, and delete it")
    return _with(state, msgspec.structs.replace(moves, lent=(*moves.lent, Lent(id, to, tuple(blobs)))))


def leaving(state: KeyState, what: Leaving) -> KeyState:
    return _with(state, msgspec.structs.replace(moves_of(state), leaving=what))


def arrived(state: KeyState, id: bytes, source: bytes) -> KeyState:
    moves = moves_of(state)
    return _with(state, msgspec.structs.replace(moves, arrived=(*moves.arrived, Arrived(id, source))))


def departed(state: KeyState, id: bytes) -> KeyState:
    """The source has let go of the version; what it has lent to that rename can only be given back."""
    moves = moves_of(state)
    lent = tuple(msgspec.structs.replace(one, made=True) if one.id == id else one for one in moves.lent)
    return _with(state, msgspec.structs.replace(moves, leaving=None, lent=lent))


def stayed(state: KeyState, id: bytes) -> KeyState:
    """The rename was refused, for ever: the source keeps the version, and has lent nothing. One that is not on its way
    any more was settled by somebody else, perhaps the other way."""
    moves = moves_of(state)
    if moves.leaving is None or moves.leaving.id != id:
        return state
    lent = tuple(one for one in moves.lent if one.id != id)
    return _with(state, msgspec.structs.replace(moves, leaving=None, lent=lent))


def received(state: KeyState, id: bytes) -> KeyState:
    """The target need not remember the rename."""
    moves = moves_of(state)
    return _with(state, msgspec.structs.replace(moves, arrived=tuple(one for one in moves.arrived if one.id != id)))


def returned(state: KeyState, id: bytes, blobs: Collection[BlobId]) -> tuple[KeyState, tuple[BlobRef, ...]]:
    """The home gets these blobs back that it has lent to a rename; with them those that nothing needs any more."""
    moves = moves_of(state)
    lent = []
    back: list[BlobRef] = []
    for one in moves.lent:
        if one.id == id:
            back += (blob for blob in one.blobs if blob.id in blobs)
            one = msgspec.structs.replace(one, blobs=tuple(blob for blob in one.blobs if blob.id not in blobs))
        if one.blobs:
            lent.append(one)
    after = _with(state, msgspec.structs.replace(moves, lent=tuple(lent)))
    needed = lent_ids(after) | {blob.id for version in after.versions for blob in version.blobs}
    return after, tuple(blob for blob in back if blob.id not in needed)


def _with(state: KeyState, moves: Moves) -> KeyState:
    return msgspec.structs.replace(state, moves=None if moves == NO_MOVES else moves)

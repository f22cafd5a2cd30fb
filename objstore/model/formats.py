"""What is kept on disk or in the coordinator says which format it has. A release reads the formats up to its own and
refuses a later one in a sentence, before it looks at anything else: what it does not know of, it would lose.

A format rises when an older release must not go on with what a newer one wrote. A new field that may be ignored or
dropped is no reason. Nothing of a later format is written before all processes of the cluster can read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import msgspec

from objstore import __version__
from objstore.model.errors import Fatal

T = TypeVar("T")
Buffer: TypeAlias = bytes | bytearray | memoryview


class _Stamp(msgspec.Struct):
    """The one field that every version of everything has."""

    format: int = 1


_json_stamp = msgspec.json.Decoder(_Stamp).decode
_msgpack_stamp = msgspec.msgpack.Decoder(_Stamp).decode


def refuse_unknown(what: str, found: int, known: int) -> None:
    """Raises Fatal."""
    if found < 1:
        raise Fatal(f"{what} has format {found}, which no release writes: it is damaged. Put back a copy of it.")
    if found > known:
        raise Fatal(
            f"{what} has format {found}; this release ({__version__}) reads formats up to {known}: "
            "a later release wrote it. Run that release, or a later one."
        )


def decode_json(raw: Buffer, kind: type[T], what: str, known: int) -> T:
    """Raises Fatal for an unknown format, msgspec.DecodeError for what is none."""
    refuse_unknown(what, _json_stamp(raw).format, known)
    return msgspec.json.decode(raw, type=kind)


def msgpack_decoder(kind: type[T], what: str, known: int) -> Callable[[Buffer], T]:
    """As decode_json."""
    whole = msgspec.msgpack.Decoder(kind).decode

    def decode(raw: Buffer) -> T:
        refuse_unknown(what, _msgpack_stamp(raw).format, known)
        return whole(raw)

    return decode


def json_decoder(kind: type[T], what: str, known: int) -> Callable[[Buffer], T]:
    """As decode_json, but an unknown format is a DecodeError too: readers of such records go on without them."""
    whole = msgspec.json.Decoder(kind).decode

    def decode(raw: Buffer) -> T:
        try:
            refuse_unknown(what, _json_stamp(raw).format, known)
        except Fatal as error:
            raise msgspec.DecodeError(str(error)) from None
        return whole(raw)

    return decode

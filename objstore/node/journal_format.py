"""The bytes of the record journal: what an acceptor promised, accepted, dropped and forgot, in the order it did so.

A file is a header and then records, each in a frame with a checksum. Read without anything else they tell what the
node held (`objstore.node.lost`), whatever is torn or rotten in between: a frame begins with four bytes that are random
for each file, so that the next one is found again after a damaged one, and so that bytes which a client stored can
never be taken for a record. The header is there twice, for the same reason.

Pure: no file is opened here (`objstore.node.journal` does).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import xxhash

from objstore.model.clock import ZERO
from objstore.model.errors import Corrupt
from objstore.model.formats import refuse_unknown
from objstore.model.limits import MIB
from objstore.ports import Buffer

SALT_BYTES = 8
RECORD_BYTES_MAX = 16 * MIB  # a value has at most 4 MiB, a page of forgotten keys 1 MiB
_FORMAT = 1
_MAGIC = b"objsrec\n"
_COPY = struct.Struct(">8sB32s16sI8sQ")  # magic, format, cluster, node, number, salt, checksum
HEADER_BYTES = 2 * _COPY.size
_FRAME = struct.Struct(">4sIQ")  # mark, length, checksum of length and record
_MARK_BYTES = 4
_LENGTH = struct.Struct(">I")
_WINDOW = 4 * MIB

_VALUE, _DROP, _FENCE, _FLOOR, _FORGET, _PROMISE, _SYNCED = range(1, 8)
_VALUE_HEAD = struct.Struct(">BHQ16sHIII")  # type, partition, tag, ballot, lengths of key, listing, state, data
_TAG_HEAD = struct.Struct(">BHQ")  # type, partition, tag
_FLOOR_HEAD = struct.Struct(">BH16sI")  # type, partition, floor, number of keys
_KEY_LENGTH = struct.Struct(">H")
_PROMISE_HEAD = struct.Struct(">BH16s")  # type, partition, ballot; then the key
_SYNCED_HEAD = struct.Struct(">BQ")  # type, offset
NO_FLOOR = ZERO.pack()


class Value(NamedTuple):
    """Accepted or installed by a request with this tag."""

    partition: int
    tag: int
    key: bytes  # RegisterKey.pack()
    ballot: bytes
    listing: bytes
    state: bytes
    data: bytes


class Drop(NamedTuple):
    """Everything of the partition before this record is forgotten, its floor too, and lower tags are refused."""

    partition: int
    tag: int


class Fence(NamedTuple):
    """The acceptor works under this tag: it refuses lower ones, or has accepted values under it."""

    partition: int
    tag: int


class Floor(NamedTuple):
    """An absent register of the partition counts as promised up to this ballot (INV-11)."""

    partition: int
    floor: bytes


class Forget(NamedTuple):
    """The floor as in `Floor`, and values of these keys with ballots up to it are no longer there."""

    partition: int
    floor: bytes
    keys: tuple[bytes, ...]


class Promise(NamedTuple):
    """The register refuses lower ballots. For this life only: another one is another acceptor."""

    partition: int
    key: bytes
    ballot: bytes


class Synced(NamedTuple):
    """Begins a batch: what stands in the file before this offset was durable before this was written."""

    offset: int


Record: TypeAlias = Value | Drop | Fence | Floor | Forget | Promise | Synced


def encode_value(
    partition: int, tag: int, key: bytes, ballot: bytes, listing: bytes, state: bytes, data: bytes
) -> bytes:
    head = _VALUE_HEAD.pack(_VALUE, partition, tag, ballot, len(key), len(listing), len(state), len(data))
    return b"".join((head, key, listing, state, data))


def encode_drop(partition: int, tag: int) -> bytes:
    return _TAG_HEAD.pack(_DROP, partition, tag)


def encode_fence(partition: int, tag: int) -> bytes:
    return _TAG_HEAD.pack(_FENCE, partition, tag)


def encode_floor(partition: int, floor: bytes) -> bytes:
    return _FLOOR_HEAD.pack(_FLOOR, partition, floor, 0)


def encode_forget(partition: int, floor: bytes, keys: Sequence[bytes]) -> bytes:
    pieces = [_FLOOR_HEAD.pack(_FORGET, partition, floor, len(keys))]
    for key in keys:
        pieces += (_KEY_LENGTH.pack(len(key)), key)
    return b"".join(pieces)


def encode_promise(partition: int, key: bytes, ballot: bytes) -> bytes:
    return _PROMISE_HEAD.pack(_PROMISE, partition, ballot) + key


def encode_synced(offset: int) -> bytes:
    return _SYNCED_HEAD.pack(_SYNCED, offset)


def value_length(key: int, listing: int, state: int, data: int) -> int:
    """Bytes in a file of the value of a register with parts of these lengths."""
    return _FRAME.size + _VALUE_HEAD.size + key + listing + state + data


def decode(record: Buffer) -> Record:
    """The inverse of the `encode_...`. Raises Corrupt for what no release up to this one wrote."""
    raw = bytes(record)
    try:
        kind = raw[0]
        if kind == _VALUE:
            return _decode_value(raw)
        if kind in (_DROP, _FENCE):
            _, partition, tag = _TAG_HEAD.unpack(raw)
            return Drop(partition, tag) if kind == _DROP else Fence(partition, tag)
        if kind in (_FLOOR, _FORGET):
            return _decode_floor(raw)
        if kind == _PROMISE:
            _, partition, ballot = _PROMISE_HEAD.unpack_from(raw)
            return Promise(partition, raw[_PROMISE_HEAD.size :], ballot)
        if kind == _SYNCED:
            return Synced(_SYNCED_HEAD.unpack(raw)[1])
    except (struct.error, IndexError) as error:
        raise Corrupt(f"a record of the journal cannot be read: {error}") from error
    raise Corrupt(f"a record of the journal has the type {kind}, which this release does not know")


def _decode_value(raw: bytes) -> Value:
    _, partition, tag, ballot, *lengths = _VALUE_HEAD.unpack_from(raw)
    if _VALUE_HEAD.size + sum(lengths) != len(raw):
        raise Corrupt("a value in the journal is not as long as its parts")
    at = _VALUE_HEAD.size
    parts = []
    for length in lengths:
        parts.append(raw[at : at + length])
        at += length
    key, listing, state, data = parts
    return Value(partition, tag, key, ballot, listing, state, data)


def _decode_floor(raw: bytes) -> Floor | Forget:
    kind, partition, floor, count = _FLOOR_HEAD.unpack_from(raw)
    if kind == _FLOOR:
        return Floor(partition, floor)
    keys = []
    at = _FLOOR_HEAD.size
    for _ in range(count):
        (length,) = _KEY_LENGTH.unpack_from(raw, at)
        at += _KEY_LENGTH.size + length
        keys.append(raw[at - length : at])
    if at != len(raw):
        raise Corrupt("a list of forgotten keys in the journal is not as long as it says")
    return Forget(partition, floor, tuple(keys))


# --- files -----------------------------------------------------------------------------------------------------


class Header(NamedTuple):
    cluster_id: str
    node_id: str
    number: int
    salt: bytes


def encode_header(header: Header) -> bytes:
    fields = (_MAGIC, _FORMAT, header.cluster_id.encode(), header.node_id.encode(), header.number, header.salt)
    return 2 * _COPY.pack(*fields, xxhash.xxh3_64_intdigest(_COPY.pack(*fields, 0)))


def decode_header(raw: Buffer) -> Header:
    """From the first HEADER_BYTES of a file. Corrupt when neither copy verifies, Fatal: a later release wrote it."""
    for at in (0, _COPY.size):
        copy = bytes(raw[at : at + _COPY.size])
        if len(copy) < _COPY.size or not copy.startswith(_MAGIC):
            continue
        *fields, checksum = _COPY.unpack(copy)
        if checksum == xxhash.xxh3_64_intdigest(_COPY.pack(*fields, 0)):
            _, version, cluster_id, node_id, number, salt = fields
            refuse_unknown("a record journal", version, _FORMAT)
            return Header(cluster_id.rstrip(b"\0").decode(), node_id.rstrip(b"\0").decode(), number, salt)
    raise Corrupt("the header of a journal file is damaged")


def frame(record: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """The two pieces that stand for a record in a file with this salt."""
    length = _LENGTH.pack(len(record))
    return _FRAME.pack(salt[:_MARK_BYTES], len(record), _checksum(salt, length, record)), record


def framed_length(record: Buffer) -> int:
    return _FRAME.size + len(record)


class Found(NamedTuple):
    """A record that verified, and where its bytes are in the file (without the frame)."""

    offset: int
    record: bytes


@dataclass(slots=True)
class Damage:
    """What a walk through a file stepped over."""

    places: int = 0


def walk(read: Callable[[int, int], bytes], size: int, salt: bytes, damage: Damage) -> Iterator[Found]:
    """Every whole record of a file of `size` bytes, in order; `read(length, offset)` gives its bytes.

    Bytes between two records, or after the last one, that are no record count as one damaged place, unless all of
    them are zero up to the end: such a tail was never written, or was cut.
    """
    window = _Window(read, size)
    mark = salt[:_MARK_BYTES]
    at = HEADER_BYTES
    while at < size:
        record = _record_at(window, at, size, mark, salt)
        if record is not None:
            yield Found(at + _FRAME.size, record)
            at += _FRAME.size + len(record)
            continue
        start = at
        found = window.find(mark, at + 1)
        while found is not None and _record_at(window, found, size, mark, salt) is None:
            found = window.find(mark, found + 1)
        if found is not None or not window.is_zero(start):
            damage.places += 1
        if found is None:
            return
        at = found


class Tail(NamedTuple):
    """What follows a place in a file, without a gap: decoded records, and where they end."""

    records: list[Record]
    end: int
    is_lost: bool  # a later batch says that something was durable where no record is


def read_tail(read: Callable[[int, int], bytes], start: int, size: int, salt: bytes) -> Tail:
    """Records that were appended behind `start`: promises and values, up to the first of another kind. Raises Corrupt
    for a record of a later release.

    The batch that was being written when the power went may be torn anywhere. What is missing from an earlier one was
    durable once: a batch behind it says so."""
    window = _Window(read, size)
    mark = salt[:_MARK_BYTES]
    records: list[Record] = []
    at = start
    while at < size and (raw := _record_at(window, at, size, mark, salt)) is not None:
        record = decode(raw)
        if not isinstance(record, Value | Promise | Synced):
            return Tail(records, at, is_lost=False)
        records.append(record)
        at += framed_length(raw)
    found = None if window.is_zero(at) else window.find(mark, at)
    while found is not None:
        raw = _record_at(window, found, size, mark, salt)
        if raw is not None and isinstance(later := decode(raw), Synced) and at < later.offset <= found:
            return Tail(records, at, is_lost=True)
        found = window.find(mark, found + 1)
    return Tail(records, at, is_lost=False)


def _record_at(window: _Window, at: int, size: int, mark: bytes, salt: bytes) -> bytes | None:
    head = window.part(_FRAME.size, at)
    if len(head) < _FRAME.size or not head.startswith(mark):
        return None
    _, length, checksum = _FRAME.unpack(head)
    if not 0 < length <= min(RECORD_BYTES_MAX, size - at - _FRAME.size):
        return None
    record = window.part(length, at + _FRAME.size)
    if len(record) != length or _checksum(salt, head[_MARK_BYTES : _MARK_BYTES + 4], record) != checksum:
        return None
    return record


def _checksum(salt: bytes, length: bytes, record: bytes) -> int:
    state = xxhash.xxh3_64(salt)
    state.update(length)
    state.update(record)
    return state.intdigest()


def is_blank(read: Callable[[int, int], bytes], size: int) -> bool:
    """Nothing was ever written to the file, or all of it was cut off."""
    return is_zero(read, 0, size)


def is_zero(read: Callable[[int, int], bytes], start: int, size: int) -> bool:
    """Nothing was written from there to the end, or all of it was cut off."""
    return _Window(read, size).is_zero(start)


def read_record(read: Callable[[int, int], bytes], offset: int, length: int, salt: bytes) -> bytes:
    """The record that `walk` found there. Raises Corrupt when it does not verify any more."""
    start = offset - _FRAME.size
    window = _Window(read, offset + length)
    record = _record_at(window, start, offset + length, salt[:_MARK_BYTES], salt)
    if record is None or len(record) != length:
        raise Corrupt("a record of the journal does not verify")
    return record


class _Window:
    """A part of a file in memory, moved along by whoever walks through it."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._start = 0
        self._data = b""

    def part(self, length: int, offset: int) -> bytes:
        if not self._start <= offset or offset + length > self._start + len(self._data):
            self._start = offset
            self._data = self._read(max(length, min(_WINDOW, self._size - offset)), offset)
        return self._data[offset - self._start : offset - self._start + length]

    def find(self, mark: bytes, offset: int) -> int | None:
        while offset < self._size:
            piece = self.part(min(_WINDOW, self._size - offset), offset)
            at = piece.find(mark)
            if at >= 0:
                return offset + at
            if len(piece) <= len(mark):
                return None
            offset += len(piece) - len(mark) + 1  # the mark may lie across the border
        return None

    def is_zero(self, offset: int) -> bool:
        while offset < self._size:
            piece = self.part(min(_WINDOW, self._size - offset), offset)
            if piece.count(0) != len(piece):
                return False
            if not piece:
                return True
            offset += len(piece)
        return True

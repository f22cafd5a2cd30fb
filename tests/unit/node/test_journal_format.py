"""The bytes of the record journal: nothing is lost but what was damaged, and nothing is ever made up."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.model.errors import Corrupt
from objstore.node import journal_format as form
from objstore.node.journal_format import (
    HEADER_BYTES,
    Damage,
    Drop,
    Fence,
    Floor,
    Forget,
    Header,
    Record,
    Value,
    decode,
    decode_header,
    encode_drop,
    encode_fence,
    encode_floor,
    encode_forget,
    encode_header,
    encode_value,
    frame,
    walk,
)
from tests.unit.node.rig import ballot

SALT = b"8 random"
HEADER = Header("c" * 32, "0123456789abcdef", 7, SALT)

partitions = st.integers(0, 65535)
tags = st.integers(0, (1 << 63) - 1)
ballots = st.binary(min_size=16, max_size=16)
keys = st.binary(min_size=17, max_size=1058)
records = st.one_of(
    st.builds(Value, partitions, tags, keys, ballots, st.binary(), st.binary(), st.binary(max_size=5000)),
    st.builds(Drop, partitions, tags),
    st.builds(Fence, partitions, tags),
    st.builds(Floor, partitions, ballots),
    st.builds(Forget, partitions, ballots, st.lists(keys, max_size=5).map(tuple)),
)


def encode(record: Record) -> bytes:
    match record:
        case Value():
            return encode_value(*record)
        case Drop():
            return encode_drop(*record)
        case Fence():
            return encode_fence(*record)
        case Floor():
            return encode_floor(*record)
        case Forget():
            return encode_forget(*record)


def file_of(written: list[Record]) -> bytes:
    pieces = [piece for record in written for piece in frame(encode(record), SALT)]
    return encode_header(HEADER) + b"".join(pieces)


def read(raw: bytes) -> tuple[list[Record], int]:
    """What a file says, and in how many places it is damaged."""
    damage = Damage()
    found = walk(lambda length, offset: raw[offset : offset + length], len(raw), decode_header(raw).salt, damage)
    return [decode(one.record) for one in found], damage.places


def values(count: int, size: int = 40) -> list[Record]:
    random = Random(count)
    return [
        Value(3, 8, b"k%015d-%04d" % (0, i), ballot(i + 1), b"l" * i, b"state", random.randbytes(size))
        for i in range(count)
    ]


@given(st.lists(records, max_size=20))
def test_what_is_written_is_read(written: list[Record]) -> None:
    assert read(file_of(written)) == (written, 0)


@given(st.lists(records, min_size=1, max_size=5), st.data())
def test_a_torn_tail_ends_the_file(written: list[Record], data: st.DataObject) -> None:
    raw = file_of(written)
    last = len(frame(encode(written[-1]), SALT)[1]) + 16
    cut = data.draw(st.integers(1, last))
    assert read(raw[:-cut]) == (written[:-1], int(cut < last))
    if any(raw[-cut:]):
        assert read(raw[:-cut] + bytes(cut)) == (written[:-1], int(cut < last)), "the file was longer than its data"
    assert read(raw + bytes(100)) == (written, 0), "a tail of zeros was never written"


def test_any_damaged_byte_costs_one_record_and_is_counted() -> None:
    written = values(12)
    written[5:5] = [Drop(3, 10), Fence(4, 6), Floor(3, ballot(2)), Forget(3, ballot(1), (b"k" * 20,))]
    raw = file_of(written)
    for at in range(len(raw)):
        for mask in (0x01, 0x80, 0xFF):
            flipped = bytearray(raw)
            flipped[at] ^= mask
            found, damaged = read(bytes(flipped))
            if at < HEADER_BYTES:
                assert (found, damaged) == (written, 0), "the other copy of the header serves"
                continue
            assert damaged == 1, f"byte {at}: the damage is not counted"
            missing = [record for record in written if record not in found]
            assert len(missing) == 1 and [record for record in written if record not in missing] == found


def test_records_after_a_long_hole_are_found() -> None:
    written = values(600, size=30_000)
    raw = bytearray(file_of(written))
    start, end = len(raw) // 4, len(raw) // 2
    assert end - start > form._WINDOW
    raw[start:end] = bytes(end - start)
    found, damaged = read(bytes(raw))
    assert damaged == 1
    assert len(found) > 400 and set(found) < set(written)
    assert found[-1] == written[-1]


def test_bytes_that_a_client_stored_are_never_taken_for_a_record() -> None:
    """A value that holds a whole file of another salt, in a record whose own frame is damaged."""
    other = Header("c" * 32, "f" * 16, 1, b"whatever")
    forged = encode_value(1, 2, b"x" * 20, ballot(99), b"", b"", b"forged")
    data = encode_header(other) + b"".join(frame(forged, other.salt)) * 50
    written: list[Record] = [*values(2), Value(1, 2, b"y" * 20, ballot(1), b"", b"", data), *values(3)[2:]]
    raw = bytearray(file_of(written))
    raw[raw.index(data) - 60] ^= 0x01
    found, damaged = read(bytes(raw))
    assert damaged == 1 and found == [*values(2), *values(3)[2:]]


def test_a_header_that_is_damaged_in_both_copies_is_refused() -> None:
    raw = bytearray(encode_header(HEADER))
    assert decode_header(raw) == HEADER
    raw[20] ^= 1
    assert decode_header(raw) == HEADER
    raw[HEADER_BYTES // 2 + 20] ^= 1
    with pytest.raises(Corrupt):
        decode_header(raw)
    with pytest.raises(Corrupt):
        decode_header(b"")


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x09unknown",
        encode_drop(1, 2)[:-1],
        encode_forget(1, bytes(16), [b"k" * 20])[:-1],
        encode_value(1, 2, b"k", bytes(16), b"", b"", b"d") + b"x",
    ],
)
def test_a_record_of_unknown_shape_is_corrupt(record: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(record)


def test_the_length_of_a_value_is_known_without_its_bytes() -> None:
    record = encode_value(1, 2, b"k" * 20, ballot(1), b"ll", b"sss", b"dddd")
    assert form.value_length(20, 2, 3, 4) == sum(map(len, frame(record, SALT)))

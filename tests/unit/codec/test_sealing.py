"""Encryption of bodies: what was sealed opens, only with its key, whole, and only where it belongs."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.codec import sealing
from objstore.codec.sealing import CHUNK, TAG, Unit, WrongKey, plain_size, sealed_range, sealed_size
from objstore.model.errors import Corrupt
from objstore.model.sealed import Sealed, parse_keys, show_key

DATA_KEY, KEY, OTHER, SALT = (bytes([value]) * 32 for value in (1, 2, 3, 4))
SIZES = st.one_of(st.integers(0, 3 * CHUNK), st.sampled_from([n * CHUNK + d for n in (1, 2, 3) for d in (-1, 0, 1)]))


def body(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))


def opened(unit: Unit, sealed: bytes) -> bytes:
    return b"".join(unit.open(0, sealed))


@given(SIZES)
@settings(deadline=None, max_examples=30)
def test_what_was_sealed_opens(size: int) -> None:
    unit = Unit(DATA_KEY, b"u", size)
    sealed = unit.seal(0, body(size))
    assert len(sealed) == sealed_size(size) and plain_size(len(sealed)) == size
    assert opened(unit, sealed) == body(size)


@given(st.integers(0, 1 << 45))
def test_sizes_go_there_and_back(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


@given(SIZES.filter(bool), st.data())
@settings(deadline=None, max_examples=50)
def test_a_range_lies_in_the_chunks_that_are_named(size: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - offset))
    unit = Unit(DATA_KEY, b"u", size)
    sealed = unit.seal(0, body(size))
    first, start, count = sealed_range(size, offset, length)
    assert count <= sealed_size(length) + 2 * (CHUNK + TAG)
    plain = b"".join(unit.open(first, sealed[start : start + count]))
    skip = offset - first * CHUNK
    assert plain[skip : skip + length] == body(size)[offset : offset + length]


SIZE = 2 * CHUNK + 100
SEALED = Unit(DATA_KEY, b"u", SIZE).seal(0, body(SIZE))
STEP = CHUNK + TAG


@pytest.mark.parametrize("at", [0, CHUNK, STEP, len(SEALED) - 1])
def test_a_changed_bit_is_found(at: int) -> None:
    wrong = bytearray(SEALED)
    wrong[at] ^= 1
    with pytest.raises(Corrupt):
        opened(Unit(DATA_KEY, b"u", SIZE), bytes(wrong))


def test_chunks_in_another_order_are_found() -> None:
    wrong = SEALED[STEP : 2 * STEP] + SEALED[:STEP] + SEALED[2 * STEP :]
    with pytest.raises(Corrupt):
        opened(Unit(DATA_KEY, b"u", SIZE), wrong)


@pytest.mark.parametrize("size", [CHUNK, 2 * CHUNK])
def test_a_body_cut_at_a_chunk_is_found_even_if_its_size_is_said_to_be_that(size: int) -> None:
    with pytest.raises(Corrupt):
        opened(Unit(DATA_KEY, b"u", size), SEALED[: sealed_size(size)])


def test_bytes_of_another_unit_or_object_do_not_open() -> None:
    for unit in (Unit(DATA_KEY, b"v", SIZE), Unit(KEY, b"u", SIZE)):
        with pytest.raises(Corrupt):
            opened(unit, SEALED)


def test_the_same_bytes_never_look_the_same() -> None:
    same = bytes(2 * CHUNK)
    sealed = Unit(DATA_KEY, b"u", len(same)).seal(0, same)
    assert sealed[:CHUNK] != sealed[STEP : STEP + CHUNK]
    assert sealed != Unit(DATA_KEY, b"v", len(same)).seal(0, same)


def test_a_data_key_opens_under_its_key_and_for_its_bucket_only() -> None:
    record = Sealed("S3", "a", SALT, sealing.wrap(DATA_KEY, KEY, SALT, "bucket"))
    assert sealing.unwrap(record, KEY, "bucket") == DATA_KEY
    for under, bucket in ((OTHER, "bucket"), (KEY, "other")):
        with pytest.raises(WrongKey):
            sealing.unwrap(record, under, bucket)
    assert DATA_KEY not in record.wrapped and KEY not in record.wrapped


def test_keys_are_read_as_they_are_shown() -> None:
    ring = parse_keys(f"{show_key('new', KEY)}\n{show_key('old', OTHER)}, ")
    assert ring.current == "new" and dict(ring.keys) == {"new": KEY, "old": OTHER}
    assert base64.b64encode(KEY).decode() not in repr(ring) and repr(KEY) not in repr(ring)


@pytest.mark.parametrize(
    "text",
    ["", " ", "a", "a:", "a:c2hvcnQ=", ":" + "A" * 43 + "=", "a:%", f"{show_key('a', KEY)} {show_key('a', KEY)}"],
)
def test_keys_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_keys(text)

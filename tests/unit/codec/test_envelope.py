"""Envelopes: what is written is read back, and no damage goes unnoticed or is called by a wrong name."""

from __future__ import annotations

import itertools
import struct

import msgspec
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.codec.envelope import (
    CHECKSUM,
    HEADER_BYTES_MAX,
    BodyVerifier,
    EnvelopeHeader,
    decode_header,
    encode_header,
    envelope_length,
    fragment_of,
    open_cell,
    seal,
    shape_of,
    verify_body,
)
from objstore.model.errors import Corrupt
from objstore.model.ids import BlobId
from objstore.model.manifest import FragmentId

HEADER = EnvelopeHeader(
    cluster_id="c1" * 16,
    bucket=bytes(range(16)),
    bucket_name="photos",
    key="été/🏖.jpg".encode(),
    blob=bytes(range(16, 32)),
    blob_size=1000,
    segment=3,
    shard=1,
    epoch=7,
    codec="isal",
    k=4,
    m=2,
    cell_size=10,
    segment_length=95,
    created_ms=1_700_000_000_000,
    about={"content-type": "image/jpeg"},
)
FRAGMENT = fragment_of(HEADER)


def cells_of(header: EnvelopeHeader) -> list[bytes]:
    shape = shape_of(header)
    return [bytes([s + 1]) * shape.cell_length(header.shard, s) for s in range(shape.stripes)]


def body_of(header: EnvelopeHeader) -> bytes:
    return b"".join(cell + seal(fragment_of(header), s, cell) for s, cell in enumerate(cells_of(header)))


def rechecked(raw: bytes) -> bytes:
    """The same bytes with a fresh checksum: damage that a writer did, not the disk."""
    return raw[:-CHECKSUM] + xxhash.xxh3_64_digest(raw[:-CHECKSUM])


def with_fields(fields: list[object]) -> bytes:
    body = msgspec.msgpack.encode(fields)
    return rechecked(struct.pack(">4sHHI", b"OBJF", 1, 0, 12 + len(body) + 8) + body + bytes(8))


def fields_of(header: EnvelopeHeader) -> list[object]:
    fields: list[object] = msgspec.to_builtins(header, builtin_types=(bytes,))
    return fields


def test_a_header_is_read_back_with_its_length_whatever_follows() -> None:
    raw = encode_header(HEADER)
    for buffer in (raw, bytearray(raw), memoryview(raw + b"cells")):
        assert decode_header(buffer) == (HEADER, len(raw))
    assert raw[:8] == b"OBJF\0\1\0\0"


def test_the_format_on_disk_is_these_bytes() -> None:
    """A change here is a new format version."""
    assert encode_header(HEADER)[12:31] == b"\xdc\0\x10\xd9\x20" + b"c1c1c1c1c1c1c1"
    assert encode_header(HEADER)[-CHECKSUM:].hex() == "e1f59c1bdb907b6e"
    assert seal(FRAGMENT, 0, b"hello").hex() == "56005cb43b29892f"
    assert seal(FRAGMENT, 1, b"").hex() == "47c7084d0addc1e9"


@settings(max_examples=200)
@given(st.data())
def test_any_flipped_bit_of_a_header_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(encode_header(HEADER))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Corrupt):
        decode_header(raw)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw[:11], "cut short: 11 bytes"),
        (lambda raw: raw[:-1], "cut short: .* of"),
        (lambda raw: b"XBJF" + raw[4:], "not a fragment"),
        (lambda raw: raw[:5] + b"\2" + raw[6:], "version 2 is not known"),
        (lambda raw: raw[:8] + struct.pack(">I", 20) + raw[12:], "impossible length of 20"),
        (lambda raw: raw[:8] + struct.pack(">I", HEADER_BYTES_MAX + 1) + raw[12:], "impossible length"),
        (lambda raw: raw[:30] + b"\0" + raw[31:], "does not match its checksum"),
        (lambda raw: rechecked(raw[:12] + b"\xc1" + raw[13:]), "wrong fields"),
    ],
)
def test_each_kind_of_damage_has_its_own_words(damage, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Corrupt, match=words):
        decode_header(damage(encode_header(HEADER)))


@pytest.mark.parametrize(
    ("field", "value"),
    [(1, b"short"), (4, b""), (5, 0), (6, -1), (7, 6), (7, -1), (10, 0), (12, 0), (13, 0), (13, 1001), (15, None)],
)
def test_fields_that_make_no_sense_are_refused_despite_a_valid_checksum(field: int, value: object) -> None:
    fields = fields_of(HEADER)
    fields[field] = value
    with pytest.raises(Corrupt, match="wrong fields"):
        decode_header(with_fields(fields))


def test_a_field_added_by_a_later_release_is_ignored() -> None:
    assert decode_header(with_fields([*fields_of(HEADER), "new"]))[0] == HEADER


def test_the_length_of_an_envelope_counts_header_and_sealed_cells() -> None:
    assert envelope_length(HEADER) == len(encode_header(HEADER)) + len(body_of(HEADER))


def test_a_cell_opens_in_its_place_only() -> None:
    cell = b"the bytes"
    sealed = cell + seal(FRAGMENT, 5, cell)
    opened = open_cell(FRAGMENT, 5, sealed)
    assert opened == cell and opened.obj is sealed
    elsewhere = FRAGMENT.segment, FRAGMENT.shard
    for fragment, stripe in (
        (FRAGMENT, 4),
        (FragmentId(BlobId(bytes(16)), *elsewhere), 5),
        (FRAGMENT._replace(segment=4), 5),
        (FRAGMENT._replace(shard=2), 5),
    ):
        with pytest.raises(Corrupt, match="does not match its checksum"):
            open_cell(fragment, stripe, sealed)


def test_an_empty_cell_is_bound_to_its_place_too() -> None:
    sealed = seal(FRAGMENT, 0, b"")
    assert open_cell(FRAGMENT, 0, sealed).nbytes == 0
    with pytest.raises(Corrupt):
        open_cell(FRAGMENT, 1, sealed)


def test_a_cell_shorter_than_its_checksum_is_cut_short() -> None:
    with pytest.raises(Corrupt, match="cut short: 7 bytes"):
        open_cell(FRAGMENT, 0, bytes(7))


@pytest.mark.parametrize("shard", range(6))
@pytest.mark.parametrize("length", [1, 4, 39, 40, 41, 95, 120])
def test_an_intact_body_verifies_for_every_shard_and_from_every_stripe(shard: int, length: int) -> None:
    header = msgspec.structs.replace(HEADER, shard=shard, segment_length=length)
    body, shape = body_of(header), shape_of(header)
    for first in range(shape.stripes):
        verify_body(header, memoryview(body)[shape.cell_offset(first) :], first)


def test_bodies_may_come_in_any_groups_of_whole_cells() -> None:
    body, shape = body_of(HEADER), shape_of(HEADER)
    assert shape.stripes == 3
    for cuts in ((1, 2), (1,), (2,), ()):
        edges = [0, *(shape.cell_offset(cut) for cut in cuts), len(body)]
        verifier = BodyVerifier(HEADER)
        for start, end in itertools.pairwise(edges):
            verifier.update(body[start:end])
        verifier.finish()


@given(st.integers(0, len(body_of(HEADER)) * 8 - 1))
def test_any_flipped_bit_of_a_body_is_noticed(bit: int) -> None:
    body = bytearray(body_of(HEADER))
    body[bit >> 3] ^= 1 << (bit & 7)
    with pytest.raises(Corrupt, match="does not match its checksum"):
        verify_body(HEADER, body)


def test_missing_surplus_swapped_and_foreign_cells_are_noticed() -> None:
    body, shape = body_of(HEADER), shape_of(HEADER)
    size = shape.cell_offset(1)
    with pytest.raises(Corrupt, match="ends after 2 of 3 cells"):
        verify_body(HEADER, body[: 2 * size])
    with pytest.raises(Corrupt, match="ends after 0 of 3 cells"):
        verify_body(HEADER, b"")
    with pytest.raises(Corrupt, match="cut short"):
        verify_body(HEADER, body[:-1])
    with pytest.raises(Corrupt, match="3 bytes behind its last cell"):
        verify_body(HEADER, body + b"abc")
    with pytest.raises(Corrupt, match=r"cell 0 .* does not match"):
        verify_body(HEADER, body[size : 2 * size] + body[:size] + body[2 * size :])
    with pytest.raises(Corrupt, match="does not match"):
        verify_body(HEADER, body_of(msgspec.structs.replace(HEADER, shard=2)))


def test_the_shape_of_a_header_is_that_of_its_segment() -> None:
    shape = shape_of(HEADER)
    assert (shape.length, shape.k, shape.m, shape.cell_size) == (95, 4, 2, 10)

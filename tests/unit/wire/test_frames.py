"""Frames: whatever the pieces in which bytes arrive, the same frames come out; damage is an error, never a frame."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.errors import InvalidRequest, WireError
from objstore.wire.frames import (
    BODY_BYTES_MAX,
    BUFFER_BYTES,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    Buffer,
    FrameReader,
    encode_frame,
)

Plain = tuple[int, int, bytes, bytes]  # kind, id, body, payload

# Sizes around the one where a frame gets its own buffer.
sizes = st.one_of(st.integers(0, 64), st.integers(BUFFER_BYTES - 80, BUFFER_BYTES + 80), st.just(3 * BUFFER_BYTES))
contents = st.builds(
    lambda size, first: bytes((first + i) % 251 for i in range(64))[:size].ljust(size, b"."), sizes, st.integers(0, 250)
)
plain_frames = st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), contents, contents)


def encoded(frame: Plain) -> bytes:
    return b"".join(encode_frame(*frame))


def feed(reader: FrameReader, data: Buffer) -> list[Plain]:
    """Give `data` as fast as the reader's buffer takes it; the frames as plain values."""
    rest = memoryview(data)
    frames = []
    while rest:
        buffer = reader.buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        rest = rest[count:]
        frames += [(f.kind, f.id, bytes(f.body), bytes(f.payload)) for f in reader.filled(count)]
    return frames


def reader() -> FrameReader:
    return FrameReader(BODY_BYTES_MAX, PAYLOAD_BYTES_MAX)


@settings(max_examples=60, deadline=None)
@given(st.lists(plain_frames, max_size=6), st.data())
def test_any_split_of_the_stream_gives_the_same_frames(frames: list[Plain], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    one = reader()
    assert [frame for piece in pieces for frame in feed(one, piece)] == frames
    assert not one.mid_frame


def test_byte_by_byte_gives_the_same_frames() -> None:
    frames = [(4, 7, b"body", b"payload"), (5, 8, b"", b""), (4, 9, b"b" * 300, b"")]
    one = reader()
    assert [f for frame in frames for byte in encoded(frame) for f in feed(one, bytes((byte,)))] == frames


def test_a_payload_stays_what_it_was_when_later_frames_arrive() -> None:
    one = reader()
    stream = encoded((1, 1, b"a", b"first")) + encoded((1, 2, b"b", b"other"))
    buffer = one.buffer()
    buffer[: len(stream)] = stream
    payloads = [frame.payload for frame in one.filled(len(stream))]
    assert payloads == [b"first", b"other"]


def test_a_large_payload_is_handed_out_read_only_and_uncopied() -> None:
    one = reader()
    stream = encoded((1, 1, b"a", b"x" * (2 * BUFFER_BYTES)))
    buffer = one.buffer()
    buffer[:] = stream[: len(buffer)]
    assert list(one.filled(len(buffer))) == []
    rest = one.buffer()  # the place of the payload's end, of exactly its length
    assert len(rest) == len(stream) - BUFFER_BYTES
    rest[:] = stream[BUFFER_BYTES:]
    [frame] = one.filled(len(rest))
    assert isinstance(frame.payload, memoryview) and frame.payload.readonly
    rest[-1:] = b"!"
    assert bytes(frame.payload[-1:]) == b"!"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_damaged_byte_is_an_error_and_never_a_frame(data: st.DataObject) -> None:
    frame = (4, 12345, b"the message", b"the payload")
    stream = bytearray(encoded(frame))
    position = data.draw(st.integers(0, len(stream) - 1))
    stream[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        feed(reader(), stream)


@pytest.mark.parametrize("position", range(12, 20))
def test_a_damaged_length_is_noticed_with_the_header_and_not_waited_for(position: int) -> None:
    header = bytearray(encoded((4, 1, b"message", b"payload"))[:HEADER_BYTES])
    header[position] ^= 1
    with pytest.raises(WireError, match="header arrived damaged"):
        feed(reader(), header)


def test_damage_in_a_large_frame_is_found() -> None:
    stream = bytearray(encoded((4, 1, b"message", b"p" * (5 * BUFFER_BYTES))))
    stream[-100] ^= 4
    with pytest.raises(WireError, match="checksum"):
        feed(reader(), stream)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_garbage_is_an_error_at_its_first_wrong_byte_or_an_unfinished_frame(garbage: bytes) -> None:
    one = reader()
    try:
        assert feed(one, garbage) == []
    except WireError:
        return
    assert one.mid_frame and b"OJ\x01".startswith(garbage[:3])


@pytest.mark.parametrize(("body", "payload"), [(b"b" * 101, b""), (b"", b"p" * 11)])
def test_too_long_is_refused_on_sight_of_the_header(body: bytes, payload: bytes) -> None:
    one = FrameReader(body_max=100, payload_max=10)
    with pytest.raises(WireError, match="announces"):
        feed(one, encoded((4, 1, body, payload))[:HEADER_BYTES])
    assert len(one.buffer()) <= BUFFER_BYTES


def test_nothing_too_long_is_encoded() -> None:
    with pytest.raises(InvalidRequest, match=f"limit of {PAYLOAD_BYTES_MAX} bytes"):
        encode_frame(4, 1, b"", bytes(PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(InvalidRequest, match=f"limit of {BODY_BYTES_MAX} bytes"):
        encode_frame(4, 1, bytes(BODY_BYTES_MAX + 1))


@pytest.mark.parametrize("length", [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 3])
def test_a_truncated_frame_is_known_as_such(length: int) -> None:
    one = reader()
    assert not one.mid_frame
    assert feed(one, encoded((4, 1, b"message", b"payload"))[:length]) == []
    assert one.mid_frame


def test_another_version_is_named() -> None:
    stream = bytearray(encoded((4, 1, b"message", b"")))
    stream[2] = 9
    with pytest.raises(WireError, match="wire version 9, this side version 1"):
        feed(reader(), stream[:3])


def test_another_protocol_is_named_at_its_first_byte() -> None:
    with pytest.raises(WireError, match=r"does not speak the objstore protocol .*: check address and port"):
        feed(reader(), b"G")
    with pytest.raises(WireError, match="GET / HT"):
        feed(reader(), b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")

"""Frames: how one message with its payload lies on a byte stream. Wire version 1.

    offset  size
         0     2  magic "OJ"
         2     1  wire version
         3     1  kind
         4     8  request id (a reply carries the id of its request)
        12     4  body length     (msgpack of one message)
        16     4  payload length  (bulk bytes, opaque here)
        20     4  header check: low half of xxh3_64 of bytes 0..19, so that a damaged length is found at once
        24     8  checksum: xxh3_64 of bytes 0..19, which seeds that of the body, which seeds that of the payload
        32        body, payload

All integers are big endian. Magic and version keep their place in every future version. Both lengths are bounded
before a byte is reserved for them. This is not protection against an attacker: see `connection.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec
from xxhash import xxh3_64_intdigest

from objstore.model import limits
from objstore.model.buffers import fresh_buffer
from objstore.model.errors import InvalidRequest, WireError

Buffer: TypeAlias = bytes | bytearray | memoryview

MAGIC: Final = b"OJ"
VERSION: Final = 1
HEADER_BYTES: Final = 32
PAYLOAD_BYTES_MAX: Final = limits.RPC_PAYLOAD_BYTES_MAX
BODY_BYTES_MAX: Final = limits.FRAME_BYTES_MAX - PAYLOAD_BYTES_MAX - HEADER_BYTES
BUFFER_BYTES: Final = 64 * limits.KIB  # frames up to here are cut out of one buffer; larger ones get their own

_PREFIX = struct.Struct(">2sBBQII")
_CHECKS = struct.Struct(">IQ")
_HEADER = struct.Struct(">2sBBQIIIQ")

assert _HEADER.size == HEADER_BYTES == _PREFIX.size + _CHECKS.size


class Frame(msgspec.Struct, frozen=True):
    """`body` is a view that is valid only until the next frame is taken; `payload` belongs to the receiver."""

    kind: int
    id: int
    body: memoryview
    payload: bytes | memoryview


def encode_frame(kind: int, id: int, body: bytes, payload: Buffer = b"") -> list[Buffer]:
    """Header with body, then the payload (if any) without a copy: it must not change before it is sent."""
    payload_length = len(payload)
    if payload_length > PAYLOAD_BYTES_MAX:
        raise InvalidRequest(f"a payload of {payload_length} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes")
    if len(body) > BODY_BYTES_MAX:
        raise InvalidRequest(f"a message of {len(body)} bytes is over the limit of {BODY_BYTES_MAX} bytes")
    prefix = _PREFIX.pack(MAGIC, VERSION, kind, id, len(body), payload_length)
    seed = xxh3_64_intdigest(prefix)
    checksum = xxh3_64_intdigest(body, seed)
    if not payload_length:
        return [prefix + _CHECKS.pack(seed & 0xFFFFFFFF, checksum) + body]
    checksum = xxh3_64_intdigest(payload, checksum)
    return [prefix + _CHECKS.pack(seed & 0xFFFFFFFF, checksum) + body, payload]


class _Header(msgspec.Struct, frozen=True):
    kind: int
    id: int
    body_length: int
    payload_length: int
    seed: int
    checksum: int


class FrameReader:
    """Cuts received bytes into frames. Give it bytes by filling the start of `buffer()`, then call `filled`.

    A byte is copied at most once on the way (payloads of large frames not at all), whatever the sizes of the
    pieces. After a WireError the stream has no known frame boundary any more: drop the connection.
    """

    def __init__(self, body_max: int, payload_max: int) -> None:
        self.body_max = body_max
        self.payload_max = payload_max
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0  # of the first byte not yet cut
        self._end = 0
        self._needed = HEADER_BYTES  # length that the frame at `_start` is known to have at least
        self._large: memoryview | None = None  # body and payload of a frame that does not fit the buffer
        self._large_filled = 0
        self._large_header: _Header | None = None

    @property
    def mid_frame(self) -> bool:
        """Some bytes of a frame are here and some are not."""
        return self._large is not None or self._end > self._start

    def buffer(self) -> memoryview:
        """Where the next received bytes go; never empty."""
        if self._large is not None:
            return self._large[self._large_filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start > BUFFER_BYTES // 2 or self._start + self._needed > BUFFER_BYTES:
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        return self._buffer[self._end :]

    def filled(self, count: int) -> Iterator[Frame]:
        """The frames that `count` new bytes in `buffer()` complete. Exhaust it before the next call."""
        if self._large is not None:
            self._large_filled += count
            if self._large_filled == len(self._large):
                yield self._take_large(self._large)
            return
        self._end += count
        while (available := self._end - self._start) >= self._needed:
            header = self._parse_header()
            body_start = self._start + HEADER_BYTES
            payload_start = body_start + header.body_length
            end = payload_start + header.payload_length
            if end > self._end:
                self._needed = end - self._start
                if self._needed > BUFFER_BYTES:
                    self._begin_large(header)
                    return
                continue
            body = self._buffer[body_start:payload_start]
            payload = bytes(self._buffer[payload_start:end]) if header.payload_length else b""
            _verify(header, body, payload)
            self._start = end
            self._needed = HEADER_BYTES
            yield Frame(header.kind, header.id, body, payload)
        if 0 < available < HEADER_BYTES:
            _check_preamble(bytes(self._buffer[self._start : self._end]))

    def _parse_header(self) -> _Header:
        magic, version, kind, id, body_length, payload_length, check, checksum = _HEADER.unpack_from(
            self._buffer, self._start
        )
        if magic != MAGIC or version != VERSION:
            _check_preamble(bytes(self._buffer[self._start : self._start + HEADER_BYTES]))
        seed = xxh3_64_intdigest(self._buffer[self._start : self._start + _PREFIX.size])
        if seed & 0xFFFFFFFF != check:
            raise WireError("a frame header arrived damaged: its check does not match")
        if body_length > self.body_max:
            raise WireError(f"a frame announces a message of {body_length} bytes; the limit here is {self.body_max}")
        if payload_length > self.payload_max:
            raise WireError(
                f"a frame announces a payload of {payload_length} bytes; the limit here is {self.payload_max}"
            )
        return _Header(kind, id, body_length, payload_length, seed, checksum)

    def _begin_large(self, header: _Header) -> None:
        here = self._buffer[self._start + HEADER_BYTES : self._end]
        self._large = memoryview(fresh_buffer(header.body_length + header.payload_length))  # seen only when it is full
        self._large[: len(here)] = here
        self._large_filled = len(here)
        self._large_header = header
        self._start = self._end = 0
        self._needed = HEADER_BYTES

    def _take_large(self, content: memoryview) -> Frame:
        header = self._large_header
        assert header is not None
        self._large = self._large_header = None
        body = content[: header.body_length]
        payload = content[header.body_length :].toreadonly() if header.payload_length else b""
        _verify(header, body, payload)
        return Frame(header.kind, header.id, body, payload)


def _verify(header: _Header, body: memoryview, payload: bytes | memoryview) -> None:
    checksum = xxh3_64_intdigest(body, header.seed)
    if header.payload_length:
        checksum = xxh3_64_intdigest(payload, checksum)
    if checksum != header.checksum:
        raise WireError("a frame arrived damaged: its checksum does not match")


def _check_preamble(start: bytes) -> None:
    """Magic and version, as far as they are here: a wrong peer is told at once, not after a whole header."""
    if not MAGIC.startswith(start[: len(MAGIC)]):
        raise WireError(
            f"the other side does not speak the objstore protocol (it sent {start[:8]!r}): check address and port"
        )
    if len(start) > len(MAGIC) and start[len(MAGIC)] != VERSION:
        raise WireError(
            f"the other side speaks wire version {start[len(MAGIC)]}, this side version {VERSION}: "
            "run releases of objstore that share a wire version"
        )

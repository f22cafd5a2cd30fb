"""Streamed fragments: an envelope that arrives in pieces, verified piece by piece, visible only after its commit.

Pieces of one stream come in order: first the whole header alone, then whole sealed cells. The first thing wrong ends
the stream and gives its space back. Streams nobody writes to any more (a lost connection, a gateway that died) end
by `drop_idle`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from objstore.codec.envelope import HEADER_BYTES_MAX, BodyVerifier, decode_header
from objstore.model.errors import Corrupt, IncompleteBody, InvalidRequest, NotFound, Overloaded
from objstore.node.fragments import FragmentStore
from objstore.node.index import Held
from objstore.node.volumes import Extent
from objstore.ports import Buffer, Clock
from objstore.wire.messages import FragAbort, FragCommit, FragOpen, FragOpened, FragWrite, Ok, Reply

STREAMS_MAX = 4096
IDLE_S = 120.0

_Answer = tuple[Reply, Buffer]


@dataclass(slots=True, eq=False)
class _Stream:
    partition: int
    fragment: bytes
    extent: Extent
    used_at: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # pieces in the order of their arrival
    written: int = 0
    header_length: int = 0
    created_ms: int = 0
    verifier: BodyVerifier | None = None


class Streams:
    def __init__(self, store: FragmentStore, clock: Clock, first_id: int) -> None:
        self._store = store
        self._clock = clock
        self._next_id = first_id  # random, so that a stream of an earlier run is never taken for one of ours
        self._streams: dict[int, _Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    async def open(self, request: FragOpen, payload: Buffer) -> _Answer:
        self._store.check_partition(request.partition, request.fragment)
        if len(self._streams) >= STREAMS_MAX:
            raise Overloaded(f"{STREAMS_MAX} fragments are being written to this node already; retry.")
        extent = self._store.reserve(request.length, backfill=request.backfill)
        stream = self._next_id
        self._next_id += 1
        self._streams[stream] = _Stream(request.partition, request.fragment, extent, self._clock.monotonic())
        return FragOpened(stream), b""

    async def write(self, request: FragWrite, payload: Buffer) -> _Answer:
        stream = self._find(request.stream)
        length = len(payload)
        stream.used_at = self._clock.monotonic()
        async with stream.turn, self._store.budget.hold(length):
            self._find(request.stream)  # it may have ended while we waited
            try:
                if request.offset != stream.written:
                    raise InvalidRequest(f"the next byte of this stream is {stream.written}, not {request.offset}")
                if request.offset + length > stream.extent.length:
                    raise InvalidRequest(f"the stream was opened for {stream.extent.length} bytes, this is more")
                if stream.verifier is None:
                    self._take_header(stream, payload)
                    await self._store.write(stream.extent, payload, request.offset, lambda: None)
                else:
                    verifier = stream.verifier
                    await self._store.write(stream.extent, payload, request.offset, lambda: verifier.update(payload))
            except BaseException:
                self._end(request.stream)
                raise
            stream.written += length
            stream.used_at = self._clock.monotonic()
        return Ok(), b""

    async def commit(self, request: FragCommit, payload: Buffer) -> _Answer:
        stream = self._find(request.stream)
        async with stream.turn:
            self._find(request.stream)
            del self._streams[request.stream]  # from here on it is ours alone
            try:
                if stream.written != stream.extent.length or stream.verifier is None:
                    raise IncompleteBody(f"{stream.written} of {stream.extent.length} bytes arrived before the commit")
                stream.verifier.finish()
                async with self._store.claims.hold(stream.fragment) as claim:
                    before = await self._store.examine(stream.fragment, stream.extent.length)
                    if before.is_same:
                        self._store.abandon(stream.extent)
                        return Ok(), b""
                    held = Held(stream.partition, stream.extent, stream.header_length, stream.created_ms)
                    done = self._store.add(stream.fragment, held, before, claim)
            except BaseException:
                self._store.abandon(stream.extent)
                raise
            await done
        return Ok(), b""

    async def abort(self, request: FragAbort, payload: Buffer) -> _Answer:
        """A stream that has ended already is as good as aborted."""
        stream = self._streams.get(request.stream)
        if stream is not None:
            async with stream.turn:
                self._end(request.stream)
        return Ok(), b""

    def drop_idle(self) -> int:
        """End the streams that were silent for too long. Returns how many."""
        now = self._clock.monotonic()
        idle = [
            number
            for number, stream in self._streams.items()
            if now - stream.used_at > IDLE_S and not stream.turn.locked()
        ]
        for number in idle:
            self._end(number)
        return len(idle)

    def _find(self, number: int) -> _Stream:
        stream = self._streams.get(number)
        if stream is None:
            raise NotFound(f"stream {number} is not open here: it failed, ended, or was silent for {IDLE_S:.0f} s")
        return stream

    def _end(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._store.abandon(stream.extent)

    def _take_header(self, stream: _Stream, payload: Buffer) -> None:
        header, header_length = decode_header(payload[:HEADER_BYTES_MAX])
        if header_length != len(payload):
            raise Corrupt(f"a stream begins with its header alone: {header_length} bytes, not {len(payload)}")
        self._store.check_header(header, header_length, stream.fragment, stream.extent.length)
        stream.header_length = header_length
        stream.created_ms = header.created_ms
        stream.verifier = BodyVerifier(header)

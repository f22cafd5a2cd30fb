"""Cutting messages into frames and frames into messages, beside the loopback that carries them and memcpy.

`tiny`: a register read and its answer's size, without payload, many in one buffer as a busy connection has them.
`payload`: cells of 256 KiB, whose checksum is computed on both sides; they are in the cache of the core, as
bytes are that have just come. No socket is involved.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from bench.figures import Figure, parser, show
from objstore.bench import limits
from objstore.model.limits import CELL_SIZE, FRAME_BYTES_MAX, RPC_PAYLOAD_BYTES_MAX
from objstore.wire.frames import FrameReader, encode_frame

TINY_BODY = bytes(60)
TINY_AT_ONCE = 64


def encode_rate(body: bytes, payload: bytes, seconds: float) -> float:
    return limits.rate(lambda: encode_frame(1, 7, body, payload), 1, seconds, time.thread_time)


def decode_rate(body: bytes, payload: bytes, at_once: int, seconds: float) -> float:
    raw = b"".join(bytes(part) for _ in range(at_once) for part in encode_frame(1, 7, body, payload))
    reader = FrameReader(FRAME_BYTES_MAX, RPC_PAYLOAD_BYTES_MAX)

    def cut() -> None:
        view, frames = memoryview(raw), 0
        while view:
            room = reader.buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            view = view[count:]
            frames += sum(1 for _ in reader.filled(count))
        assert frames == at_once

    return limits.rate(cut, at_once, seconds, time.thread_time)


def measure(seconds: float, cell: int = CELL_SIZE) -> list[Figure]:
    trips = limits.loopback(seconds, len(TINY_BODY))
    memcpy = limits.memcpy(seconds, cell) / 1e6
    payload = bytes(cell)
    size = cell / 1e6
    loopback = "loopback round trips"
    return [
        Figure("tiny, encode", encode_rate(TINY_BODY, b"", seconds), "frames/s", loopback, trips),
        Figure("tiny, cut", decode_rate(TINY_BODY, b"", TINY_AT_ONCE, seconds), "frames/s", loopback, trips),
        Figure("payload, encode", encode_rate(TINY_BODY, payload, seconds) * size, "MB/s", "memcpy", memcpy),
        Figure("payload, cut", decode_rate(TINY_BODY, payload, 4, seconds) * size, "MB/s", "memcpy", memcpy),
    ]


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__)
    arguments = found.parse_args(words)
    show("frames, one core", measure(arguments.seconds), as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

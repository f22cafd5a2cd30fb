"""The `zfec` codec: the zfec package, a systematic Vandermonde code in portable C. Slower, runs anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import zfec

from objstore.codec.stripes import common_length
from objstore.ports import Buffer


class ZfecCodec:
    """See `objstore.codec.erasure.Codec`. zfec calls our k+m "m"."""

    name = "zfec"

    def __init__(self, k: int, m: int) -> None:
        self.k = k
        self.m = m
        self._encoder = zfec.Encoder(k, k + m)
        self._decoder = zfec.Decoder(k, k + m)

    def encode(self, cells: Sequence[Buffer]) -> list[bytes]:
        common_length(cells, self.k)
        return list(self._encoder.encode(cells, tuple(range(self.k, self.k + self.m))))

    def rebuild(self, cells: Mapping[int, Buffer], want: Sequence[int]) -> dict[int, bytes]:
        have = sorted(cells)[: self.k]
        used = [cells[shard] for shard in have]
        common_length(used, self.k)
        data = self._decoder.decode(used, have)
        lost_parity = tuple(shard for shard in want if shard >= self.k and shard not in cells)
        parity = dict(zip(lost_parity, self._encoder.encode(data, lost_parity), strict=True)) if lost_parity else {}
        known = {**dict(enumerate(data)), **cells, **parity}
        return {shard: bytes(known[shard]) for shard in want}

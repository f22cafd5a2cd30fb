"""Erasure codecs: k data cells to m parity cells, and any k cells back to all. Systematic, GF(2^8).

Which codec wrote an object is recorded with it: the two use different matrices, so parity of one means nothing
to the other. `isal` is fast and needs the Intel ISA-L library; `zfec` runs anywhere. Both give the GIL back
while they work, so that a thread per stripe scales. Nothing here knows of stripes, padding or checksums.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Protocol

from objstore.codec.isal import IsalCodec, isal_loads
from objstore.codec.zfec import ZfecCodec
from objstore.model.cluster import ErasureCode
from objstore.model.errors import InvalidRequest
from objstore.ports import Buffer


class Codec(Protocol):
    """Shards 0..k-1 are the data cells, k..k+m-1 the parity cells. Cells are contiguous buffers."""

    @property
    def name(self) -> str: ...

    @property
    def k(self) -> int: ...

    @property
    def m(self) -> int: ...

    def encode(self, cells: Sequence[Buffer]) -> list[bytes]:
        """k data cells of one length > 0 -> the m parity cells of that length."""

    def rebuild(self, cells: Mapping[int, Buffer], want: Sequence[int]) -> dict[int, bytes]:
        """At least k cells of one length > 0 by shard -> the wanted shards, data or parity."""


_MAKERS: Mapping[str, type[IsalCodec | ZfecCodec]] = {"isal": IsalCodec, "zfec": ZfecCodec}


def available() -> tuple[str, ...]:
    """Names that `get_codec` can serve on this machine, fastest first."""
    return ("isal", "zfec") if isal_loads() else ("zfec",)


@functools.cache
def get_codec(name: str, k: int, m: int) -> Codec:
    """The codec for k+m; one instance per process. InvalidRequest for a name or a code it cannot serve."""
    ErasureCode(k, m)  # checks the bounds
    if name not in _MAKERS:
        raise InvalidRequest(f"erasure codec {name!r} is not known; choose one of: {', '.join(available())}")
    if name not in available():
        raise InvalidRequest(
            f"erasure codec {name!r} cannot run here because its library does not load; "
            f"install pyeclib from a wheel or use {available()[0]!r}"
        )
    return _MAKERS[name](k, m)

"""A body that comes in chunks of any size, read in lengths of our own, into places of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from objstore.model.buffers import fresh_buffer
from objstore.model.errors import IncompleteBody
from objstore.ports import Buffer


class ExactReader:
    """Turns an iterator of chunks of any size into reads of exact length."""

    def __init__(self, body: AsyncIterator[Buffer]) -> None:
        self._body = body
        self._rest = memoryview(b"")
        self.taken = 0

    async def read(self, length: int) -> bytearray:
        """Exactly `length` bytes. IncompleteBody when the body ends before."""
        out = fresh_buffer(length)
        await self.fill([memoryview(out)])
        return out

    async def fill(self, places: Sequence[memoryview]) -> None:
        """The next bytes of the body into these places, one after the other. IncompleteBody as above."""
        begun = self.taken
        for place in places:
            filled, length = 0, len(place)
            while filled < length:
                if not self._rest:
                    chunk = await anext(self._body, None)
                    if chunk is None:
                        short = begun + sum(map(len, places)) - self.taken
                        raise IncompleteBody(f"the body ended after {self.taken} bytes, {short} short of this stripe")
                    self._rest = memoryview(chunk)
                    continue
                step = min(length - filled, len(self._rest))
                place[filled : filled + step] = self._rest[:step]
                self._rest = self._rest[step:]
                filled += step
                self.taken += step

    async def expect_end(self) -> None:
        """IncompleteBody when more bytes come. Also runs the checks that a body makes at its end."""
        while True:
            if self._rest:
                raise IncompleteBody(f"the body goes on after the announced {self.taken} bytes")
            chunk = await anext(self._body, None)
            if chunk is None:
                return
            self._rest = memoryview(chunk)

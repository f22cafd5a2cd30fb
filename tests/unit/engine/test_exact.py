"""Bodies in chunks of any size come out whole, in order, in the lengths and places asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from objstore.engine.exact import ExactReader
from objstore.model.errors import IncompleteBody

BODY = random.Random(3).randbytes(10_000)


async def chunks(sizes: Sequence[int]) -> AsyncIterator[bytes]:
    at = 0
    for size in sizes:
        yield BODY[at : at + size]
        at += size


@pytest.mark.parametrize("sizes", [[10_000], [1] * 10_000, [0, 7, 4096, 0, 5000, 897]])
def test_every_byte_comes_to_its_place(sizes: list[int]) -> None:
    async def run() -> None:
        reader = ExactReader(chunks(sizes))
        first = await reader.read(5000)
        places = [bytearray(length) for length in (1, 0, 2999, 2000)]
        await reader.fill([memoryview(place) for place in places])
        assert first + b"".join(places) == BODY
        assert [len(place) for place in places] == [1, 0, 2999, 2000]
        assert reader.taken == len(BODY)
        await reader.expect_end()

    asyncio.run(run())


def test_a_body_that_ends_early_is_refused_and_says_how_much_is_missing() -> None:
    async def run() -> None:
        reader = ExactReader(chunks([4000, 100]))
        await reader.read(4000)
        with pytest.raises(IncompleteBody, match="ended after 4100 bytes, 900 short"):
            await reader.fill([memoryview(bytearray(300)), memoryview(bytearray(700))])

    asyncio.run(run())


def test_a_body_that_goes_on_is_refused() -> None:
    async def run() -> None:
        reader = ExactReader(chunks([5000, 1]))
        await reader.read(5000)
        with pytest.raises(IncompleteBody):
            await reader.expect_end()

    asyncio.run(run())

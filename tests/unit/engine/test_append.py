"""Appends as the engine sees them: which blobs are written again, and what a change refuses."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from objstore.cluster.usage import Measured
from objstore.engine.append import MERGED_MAX, parts_with, tail_of
from objstore.engine.keystate import beside, floor_above, state_of
from objstore.engine.sealing import Sealing, new_sealing
from objstore.engine.types import ObjectInfo
from objstore.model import bucketconfig, limits
from objstore.model.errors import Conflict, InvalidWriteOffset, NotAppendable, QuotaExceeded, TooManyParts
from objstore.model.ids import BucketId
from objstore.model.quota import BucketQuota
from objstore.model.records import KeyState, RegisterKey, Space
from objstore.model.sealed import BY_CLIENT, BY_CLUSTER
from objstore.model.usage import Use
from objstore.ports import Buffer
from objstore.register.change import body_of
from tests.s3.memory_engine import MemoryEngine, _Random


async def pieces(data: bytes) -> AsyncIterator[Buffer]:
    yield data


async def put(engine: MemoryEngine, data: bytes, **more: Any) -> None:
    await engine.put_object("photos", "k", pieces(data), len(data), {}, **more)


async def append(engine: MemoryEngine, base: ObjectInfo | None, data: bytes, **more: Any) -> ObjectInfo:
    return await engine.append_object("photos", "k", base, pieces(data), len(data), {}, **more)


async def look(engine: MemoryEngine, sealing: Sealing | None = None) -> tuple[ObjectInfo, bytes]:
    info = await engine.head_object("photos", "k")
    return info, b"".join([bytes(buffer) async for buffer in engine.read(info, 0, info.size, sealing)])


async def state(engine: MemoryEngine) -> KeyState:
    return state_of(body_of(await engine.registers.read(await key(engine))))


async def key(engine: MemoryEngine) -> RegisterKey:
    return RegisterKey((await engine.get_bucket("photos")).id, Space.OBJECT, b"k")


def with_engine(work: Callable[[MemoryEngine], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = MemoryEngine()
        await engine.create_bucket("photos")
        await work(engine)

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 100, 5000, 100_000, 3 << 20, 20 << 20])
def test_ten_thousand_appends_make_few_blobs(size: int) -> None:
    blobs: list[int] = []
    written = 0
    for _ in range(limits.PARTS_MAX):
        tail = tail_of(tuple(blobs), size)
        assert tail.start == sum(blobs[: tail.kept])
        added = sum(blobs[tail.kept :]) + size
        written += added
        blobs = [*blobs[: tail.kept], added]
    assert sum(blobs) == size * limits.PARTS_MAX
    assert len(blobs) <= 3 * sum(blobs) // MERGED_MAX + 24
    assert written <= 16 * sum(blobs)


def test_sizes_of_any_order_leave_few_blobs() -> None:
    sizes = random.Random(5)
    for lengths in (
        range(3000, 0, -1),
        range(1, 3000),
        [sizes.randrange(1, 1 << sizes.randrange(1, 22)) for _ in range(3000)],
    ):
        blobs: list[int] = []
        for size in lengths:
            tail = tail_of(tuple(blobs), size)
            blobs = [*blobs[: tail.kept], sum(blobs[tail.kept :]) + size]
            small = [blob for blob in blobs if blob <= MERGED_MAX // 4]
            assert len(small) <= 48 + sum(blobs) // (MERGED_MAX // 4)


def test_parts_are_counted() -> None:
    assert parts_with(0, (), 5) == (5,)
    assert parts_with(7, (), 5) == (7, 5)
    assert parts_with(7, (3, 4), 5) == (3, 4, 5)
    assert len(parts_with(9999, (1,) * 9999, 5)) == limits.PARTS_MAX
    with pytest.raises(TooManyParts):
        parts_with(10_000, (1,) * 10_000, 5)


def test_a_small_object_stays_in_its_register_while_it_fits() -> None:
    async def work(engine: MemoryEngine) -> None:
        await append(engine, None, b"x" * 1000)
        for _ in range(31):
            await append(engine, (await look(engine))[0], b"y" * 1000)
        assert not engine.stored
        await append(engine, (await look(engine))[0], b"z" * 1000)
        info, data = await look(engine)
        assert data == b"x" * 1000 + b"y" * 31_000 + b"z" * 1000
        assert len(info.blobs) == 1 and info.data == b"" and len(info.parts) == 33

    with_engine(work)


def test_what_is_written_again_is_retired_and_nothing_else() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, b"a" * 500_000)
        await append(engine, (await look(engine))[0], b"b" * 40_000)
        first, _ = await look(engine)
        assert len(first.blobs) == 2 and not (await state(engine)).retired
        await append(engine, first, b"c" * 30_000)
        second, data = await look(engine)
        assert data == b"a" * 500_000 + b"b" * 40_000 + b"c" * 30_000
        assert second.blobs[0] == first.blobs[0] and len(second.blobs) == 2
        assert [retired.blob for retired in (await state(engine)).retired] == [first.blobs[1]]

    with_engine(work)


@pytest.mark.parametrize("kind", [BY_CLUSTER, BY_CLIENT])
def test_an_encrypted_object_keeps_its_data_key_and_never_seals_two_inline_bodies(kind: str) -> None:
    async def work(engine: MemoryEngine) -> None:
        sealing = new_sealing(kind, "k1", b"u" * 32, "photos", _Random())
        whole = b"s" * 100
        await append(engine, None, whole, sealing=sealing)
        for size in (50, 1, 90_000, 70_000, 3, 100_000):
            piece = os.urandom(size)
            base, _ = await look(engine, sealing)
            made = await append(engine, base, piece, sealing=sealing)
            whole += piece
            info, data = await look(engine, sealing)
            assert data == whole and info.sealed == sealing.record
            assert info.data == b"" and info.blobs and made.etag == info.etag != base.etag
            for stored in engine.stored.values():
                assert piece not in stored or size < 10

    with_engine(work)


def test_the_data_key_may_be_wrapped_anew_meanwhile() -> None:
    async def work(engine: MemoryEngine) -> None:
        sealing = new_sealing(BY_CLUSTER, "k1", b"u" * 32, "photos", _Random())
        await put(engine, b"a" * 50_000, sealing=sealing)
        base, _ = await look(engine, sealing)
        again = msgspec.structs.replace(sealing.record, key_id="k2")
        await engine.amend_object("photos", "k", None, lambda it: msgspec.structs.replace(it, sealed=again))
        await append(engine, base, b"b" * 10, sealing=sealing)
        assert (await engine.head_object("photos", "k")).sealed == again

    with_engine(work)


@pytest.mark.parametrize("size", [10, 90_000])
def test_an_append_to_what_was_replaced_is_refused_and_leaves_nothing(size: int) -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, b"a" * size)
        base, _ = await look(engine)
        await put(engine, b"b" * size)
        before = dict(engine.stored)
        with pytest.raises(Conflict):
            await append(engine, base, b"c" * 50_000)
        await append(engine, (await look(engine))[0], b"d")
        before = dict(engine.stored)
        with pytest.raises(InvalidWriteOffset):
            await append(engine, base, b"c" * 50_000)
        await engine.delete_object("photos", "k")
        with pytest.raises(InvalidWriteOffset):
            await append(engine, base, b"c" * 50_000)
        assert engine.stored == before

    with_engine(work)


def test_what_was_created_meanwhile_is_not_replaced() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, b"first")
        with pytest.raises(InvalidWriteOffset):
            await append(engine, None, b"second")
        assert (await look(engine))[1] == b"first"

    with_engine(work)


def test_a_versioned_bucket_refuses() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, b"a")
        base, _ = await look(engine)
        await engine.configure_bucket("photos", lambda it: msgspec.structs.replace(it, versioning="Enabled"))
        for one in (base, None):
            with pytest.raises(NotAppendable):
                await append(engine, one, b"b")

    with_engine(work)


def test_only_what_an_append_brings_can_be_too_old() -> None:
    """Garbage collection has given up ids as old as those of the object, which is there all the same (INV-7)."""

    async def work(engine: MemoryEngine) -> None:
        await put(engine, b"a" * 50_000)
        await append(engine, (await look(engine))[0], b"b" * 10_000)
        base, _ = await look(engine)
        floor = max(floor_above(blob.id) for blob in base.blobs)
        await engine.registers.change(
            await key(engine), lambda body: beside(state_of(body), ids_floor=floor), above=floor
        )
        await asyncio.sleep(0.002)  # ids are of milliseconds
        await append(engine, base, b"c" * 10)
        assert (await look(engine))[1] == b"a" * 50_000 + b"b" * 10_000 + b"c" * 10

    with_engine(work)


def test_two_engines_at_one_offset() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, b"a" * 50_000)
        base, _ = await look(engine)
        tries = (append(engine, base, bytes((number,)) * 40_000) for number in range(8))
        ends = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(end) for end in ends].count(ObjectInfo) == 1
        assert [type(end) for end in ends].count(InvalidWriteOffset) == 7
        winner = next(number for number, end in enumerate(ends) if isinstance(end, ObjectInfo))
        info, data = await look(engine)
        assert data == b"a" * 50_000 + bytes((winner,)) * 40_000
        gone = {retired.blob.id for retired in (await state(engine)).retired}
        assert engine.stored.keys() == {blob.id for blob in info.blobs} | gone

    with_engine(work)


def test_an_append_counts_against_the_quota_before_its_body_is_read() -> None:
    class Board:
        async def measured(self, bucket: BucketId) -> Measured:
            return Measured(Use(), 1)

    async def main() -> None:
        engine = MemoryEngine(Board())
        await engine.create_bucket("photos", config=bucketconfig.encoded(BucketQuota(100_000, 0)))
        await append(engine, None, b"a" * 60_000)
        base, _ = await look(engine)
        body = pieces(b"b" * 40_001)
        with pytest.raises(QuotaExceeded):
            await engine.append_object("photos", "k", base, body, 40_001, {})
        assert [bytes(piece) async for piece in body] == [b"b" * 40_001]  # nobody had asked for it
        await append(engine, base, b"b" * 40_000)
        with pytest.raises(QuotaExceeded):
            await append(engine, (await look(engine))[0], b"c")

    asyncio.run(main())

"""What lies on disks when bodies are encrypted, what a read does when it was tampered with, and changing keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from objstore.adapters.randomness import SystemRandom
from objstore.engine.rekeying import Census, look
from objstore.engine.sealing import Sealing, new_sealing, open_sealing
from objstore.engine.types import ObjectInfo
from objstore.model import limits
from objstore.model.errors import BadDigest, Corrupt, IncompleteBody
from objstore.model.sealed import BY_CLIENT, BY_CLUSTER, KeyRing
from objstore.ports import Buffer
from tests.s3.memory_engine import MemoryEngine

RANDOM = SystemRandom()
OLD, NEW = KeyRing("old", {"old": b"o" * 32}), KeyRing("new", {"new": b"n" * 32, "old": b"o" * 32})
MARK = b"what nobody may see "
SIZES = [len(MARK), limits.INLINE_SIZE_MAX, 2 * limits.MIB + 5]


def sealing(ring: KeyRing = OLD, kind: str = BY_CLUSTER) -> Sealing:
    return new_sealing(kind, ring.current, ring.keys[ring.current], "photos", RANDOM)


def body(size: int) -> bytes:
    return (MARK * (size // len(MARK) + 1))[:size]


async def pieces(data: bytes, step: int = 100_000) -> AsyncIterator[Buffer]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


async def put(engine: MemoryEngine, key: str, data: bytes, how: Sealing | None, **more: Any) -> ObjectInfo:
    return await engine.put_object("photos", key, pieces(data), len(data), {}, sealing=how, **more)


async def read(engine: MemoryEngine, info: ObjectInfo, how: Sealing | None) -> bytes:
    return b"".join([bytes(piece) async for piece in engine.read(info, 0, info.size, how)])


async def new_engine() -> MemoryEngine:
    engine = MemoryEngine()
    await engine.create_bucket("photos")
    return engine


def everything(engine: MemoryEngine) -> bytes:
    registers: Any = engine.registers
    return b"".join(engine.stored.values()) + b"".join(b"".join(value) for value in registers._values.values())


@pytest.mark.parametrize("size", SIZES)
def test_nothing_of_the_body_or_of_its_key_is_stored(size: int) -> None:
    """INV-19."""

    async def run() -> None:
        engine, how = await new_engine(), sealing()
        await put(engine, "k", body(size), how)
        found = everything(engine)
        assert MARK not in found and how.data_key not in found and OLD.keys["old"] not in found
        await put(engine, "plain", body(size), None)
        assert MARK in everything(engine)  # it is looked for in the right place

    asyncio.run(run())


def test_a_tampered_body_is_not_returned() -> None:
    async def run() -> None:
        engine, how = await new_engine(), sealing()
        info = await put(engine, "k", body(SIZES[2]), how)
        assert await read(engine, info, how) == body(SIZES[2])
        (blob,) = engine.stored
        wrong = bytearray(engine.stored[blob])
        wrong[-20] ^= 1
        engine.stored[blob] = bytes(wrong)
        got = bytearray()
        with pytest.raises(Corrupt):
            async for piece in engine.read(info, 0, info.size, how):
                got += piece
        assert body(SIZES[2]).startswith(got)

    asyncio.run(run())


def test_bodies_of_two_objects_cannot_be_exchanged() -> None:
    async def run() -> None:
        engine, how = await new_engine(), sealing()
        infos = [await put(engine, key, body(SIZES[2]), how) for key in "ab"]  # even under one data key
        one, other = engine.stored
        engine.stored[one], engine.stored[other] = engine.stored[other], engine.stored[one]
        for info in infos:
            with pytest.raises(Corrupt):
                await read(engine, info, how)

    asyncio.run(run())


@pytest.mark.parametrize("size", SIZES)
def test_checks_of_the_body_are_those_of_the_plain_one(size: int) -> None:
    async def run() -> None:
        engine = await new_engine()
        with pytest.raises(BadDigest):
            await put(engine, "k", body(size), sealing(), content_md5=bytes(16))
        for wrong in (size - 1, size + 1):
            with pytest.raises(IncompleteBody):
                await engine.put_object("photos", "k", pieces(body(size)), wrong, {}, sealing=sealing())
        assert not (await engine.list_objects("photos")).entries and not engine.stored

    asyncio.run(run())


def test_small_encrypted_versions_of_one_key_keep_their_own_bytes() -> None:
    """More than fit into the register: then they lie elsewhere, sealed anew."""

    async def run() -> None:
        engine = await new_engine()
        await engine.configure_bucket("photos", lambda it: msgspec.structs.replace(it, versioning="Enabled"))
        size = limits.INLINE_SIZE_MAX - 100
        kept = []
        for number in range(limits.INLINE_KEPT_MAX // size + 3):
            how = sealing() if number % 3 else None
            data = bytes([number]) * (size - number)
            kept.append((await put(engine, "k", data, how), data, how))
        assert engine.stored
        for info, data, how in kept:
            again = await engine.head_object("photos", "k", info.version_id)
            assert await read(engine, again, how) == data

    asyncio.run(run())


def test_rotation_changes_only_the_wrapped_keys() -> None:
    async def run() -> None:
        engine = await new_engine()
        before = {key: await put(engine, key, body(size), sealing()) for key, size in zip("abc", SIZES, strict=True)}
        await put(engine, "plain", b"x", None)
        await put(engine, "client", b"x", sealing(kind=BY_CLIENT))
        lying = dict(engine.stored)

        async def run_look(ring: KeyRing | None, *, rewrap: bool) -> Census:
            return await look(engine, ring, RANDOM, rewrap=rewrap, tell=lambda _: None)

        found = await run_look(NEW, rewrap=False)
        assert (found.plain, found.by_clients, dict(found.by_key), found.unknown) == (1, 1, {"old": 3}, 0)
        found = await run_look(NEW, rewrap=True)
        assert (dict(found.by_key), found.changed) == ({"new": 3}, 3)
        assert (await run_look(NEW, rewrap=True)).changed == 0
        assert (await run_look(OLD, rewrap=True)).unknown == 3
        assert (await run_look(None, rewrap=False)).unknown == 3
        found = await run_look(KeyRing("x", {"x": b"x" * 32, "new": b"?" * 32}), rewrap=True)
        assert (found.unknown, found.changed) == (3, 0)  # a key of that name, but not that key
        assert engine.stored == lying
        for key, info in before.items():
            after = await engine.head_object("photos", key)
            assert (after.etag, after.modified_ms, after.version_id) == (info.etag, info.modified_ms, info.version_id)
            assert after.sealed is not None and open_sealing(after.sealed, OLD.keys["old"], "photos") is None
            how = open_sealing(after.sealed, NEW.keys["new"], "photos")
            assert await read(engine, after, how) == body(info.size)

    asyncio.run(run())


def test_rotation_goes_over_all_pages_and_versions() -> None:
    async def run() -> None:
        engine = await new_engine()
        await engine.configure_bucket("photos", lambda it: msgspec.structs.replace(it, versioning="Enabled"))
        for number in range(1100):
            await put(engine, f"k{number % 600}", b"x", sealing())
        await engine.delete_object("photos", "k7")
        found = await look(engine, NEW, RANDOM, rewrap=True, tell=lambda _: None)
        assert (found.changed, dict(found.by_key)) == (1100, {"new": 1100})

    asyncio.run(run())


def test_open_uploads_are_counted_by_key() -> None:
    async def run() -> None:
        engine = await new_engine()
        await engine.create_upload("photos", "m", {}, sealed=sealing().record)
        await engine.create_upload("photos", "p", {})
        found = await look(engine, NEW, RANDOM, rewrap=True, tell=lambda _: None)
        assert dict(found.uploads) == {"old": 1}

    asyncio.run(run())

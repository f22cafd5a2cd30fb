"""Renames as the engine does them, and what is found when one was cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from objstore.engine.keystate import state_of
from objstore.engine.movestate import LENT_MAX, moves_of
from objstore.engine.moving import settle
from objstore.engine.sealing import new_sealing
from objstore.engine.types import WriteCondition
from objstore.model.errors import NoSuchKey, NotRenamable, PreconditionFailed, QuorumLost, TooManyRenames
from objstore.model.records import KeyState, RegisterKey, Space
from objstore.model.sealed import BY_CLUSTER
from objstore.ports import Buffer
from objstore.register.change import body_of
from tests.s3.memory_engine import MemoryEngine, _Random

SMALL, BIG = b"small", bytes(range(256)) * 1000
NEW = WriteCondition(if_none_match="*")


def with_engine(work: Callable[[MemoryEngine], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = MemoryEngine()
        await engine.create_bucket("b")
        await work(engine)

    asyncio.run(main())


async def pieces(data: bytes) -> AsyncIterator[Buffer]:
    yield data


async def put(engine: MemoryEngine, key: str, data: bytes, **more: Any) -> None:
    await engine.put_object("b", key, pieces(data), len(data), {"x-amz-meta-a": key}, **more)


async def get(engine: MemoryEngine, key: str, sealing: Any = None) -> bytes:
    info = await engine.head_object("b", key)
    return b"".join([bytes(buffer) async for buffer in engine.read(info, 0, info.size, sealing)])


async def register(engine: MemoryEngine, key: str) -> RegisterKey:
    return RegisterKey((await engine.get_bucket("b")).id, Space.OBJECT, key.encode())


async def state(engine: MemoryEngine, key: str) -> KeyState:
    return state_of(body_of(await engine.registers.read(await register(engine, key))))


async def is_gone(engine: MemoryEngine, key: str) -> bool:
    try:
        await engine.head_object("b", key)
    except NoSuchKey:
        return True
    return False


@pytest.mark.parametrize("data", [b"", SMALL, BIG])
def test_all_but_the_name_stays(data: bytes) -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, "old", data, tags={"t": "1"})
        before = await engine.head_object("b", "old")
        await engine.rename_object("b", "old", "new")
        after = await engine.head_object("b", "new")
        assert await is_gone(engine, "old") and await get(engine, "new") == data
        for name in ("size", "etag", "headers", "tags", "modified_ms", "blobs", "parts"):
            assert getattr(after, name) == getattr(before, name), name
        listed = await engine.list_objects("b")
        assert [entry.key for entry in listed.entries] == ["new"]
        assert moves_of(await state(engine, "new")) == moves_of(KeyState())

    with_engine(work)


def test_an_encrypted_object_can_be_read_under_its_new_name() -> None:
    async def work(engine: MemoryEngine) -> None:
        sealing = new_sealing(BY_CLUSTER, "k1", b"k" * 32, "b", _Random())
        for data in (SMALL, BIG):
            await put(engine, "old", data, sealing=sealing)
            await engine.rename_object("b", "old", "new")
            assert await get(engine, "new", sealing) == data

    with_engine(work)


def test_conditions_hold_or_nothing_happens() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, "old", BIG)
        await put(engine, "new", SMALL)
        with pytest.raises(PreconditionFailed):
            await engine.rename_object("b", "old", "new", condition=NEW)
        with pytest.raises(PreconditionFailed):
            await engine.rename_object("b", "old", "x", source_condition=WriteCondition(if_match="other"))
        with pytest.raises(NoSuchKey):
            await engine.rename_object("b", "none", "x")
        assert await get(engine, "old") == BIG and await get(engine, "new") == SMALL and await is_gone(engine, "x")
        assert (await state(engine, "old")).moves is None and (await state(engine, "new")).moves is None
        await engine.rename_object("b", "old", "new", condition=WriteCondition(if_match="*"))
        assert await get(engine, "new") == BIG

    with_engine(work)


def test_a_bucket_that_is_versioned_refuses() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, "old", SMALL)
        await engine.configure_bucket("b", lambda bucket: _versioned(bucket))
        with pytest.raises(NotRenamable, match="copy it"):
            await engine.rename_object("b", "old", "new")

    with_engine(work)


def _versioned(bucket: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(bucket, versioning="Enabled")


def test_a_repeat_with_its_token_is_told_that_it_was_done() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, "old", BIG)
        await engine.rename_object("b", "old", "new", token="t")
        await engine.rename_object("b", "old", "new", token="t")
        with pytest.raises(NoSuchKey):
            await engine.rename_object("b", "old", "new", token="u")
        await put(engine, "old", SMALL)  # another object, which the first request did not mean
        await engine.rename_object("b", "old", "new", token="t")
        assert await get(engine, "old") == SMALL and await get(engine, "new") == BIG
        assert (await state(engine, "old")).moves is None or moves_of(await state(engine, "old")).leaving is None

    with_engine(work)


def test_names_can_be_written_anew_and_appended_to() -> None:
    async def work(engine: MemoryEngine) -> None:
        await put(engine, "a", BIG)
        await engine.rename_object("b", "a", "b")
        await put(engine, "a", SMALL)
        base = await engine.head_object("b", "b")
        await engine.append_object("b", "b", base, pieces(BIG * 3), 3 * len(BIG), {})
        await engine.rename_object("b", "b", "c")
        await engine.rename_object("b", "a", "b")
        assert await get(engine, "c") == BIG * 4 and await get(engine, "b") == SMALL and await is_gone(engine, "a")
        await engine.rename_object("b", "c", "a")
        assert await get(engine, "a") == BIG * 4

    with_engine(work)


@pytest.mark.parametrize("last", [1, 2, 3, 4])
def test_a_rename_that_was_cut_short_is_settled_by_who_needs_it(last: int) -> None:
    """INV-25: cut off after each change: done from the second on, undone before."""

    async def work(engine: MemoryEngine) -> None:
        await put(engine, "old", BIG)
        real, calls = engine.registers.change, 0

        async def cut(key: RegisterKey, *rest: Any, **more: Any) -> bytes:
            nonlocal calls
            calls += 1
            if calls > last:
                raise QuorumLost("cut off")
            return await real(key, *rest, **more)

        engine.registers.change = cut  # type: ignore[method-assign]
        if last < 4:
            with pytest.raises(QuorumLost):
                await engine.rename_object("b", "old", "new")
        else:
            await engine.rename_object("b", "old", "new")
        engine.registers.change = real  # type: ignore[method-assign]
        done = last >= 2
        assert await is_gone(engine, "old") == done and await is_gone(engine, "new") != done
        leaving = moves_of(await state(engine, "old")).leaving
        assert (leaving is not None) == (last < 3)
        await put(engine, "old", SMALL)
        assert await get(engine, "old") == SMALL and await is_gone(engine, "new") != done
        assert moves_of(await state(engine, "old")).leaving is None
        if leaving is not None:  # whoever comes late finds nothing to do
            before = await state(engine, "old"), await state(engine, "new")
            await settle(engine.registers, await register(engine, "old"), leaving, 1)
            assert (await state(engine, "old"), await state(engine, "new")) == before

    with_engine(work)


def test_a_rename_that_was_given_up_cannot_come_late() -> None:
    """INV-25: its gateway stands still before the second change, and goes on when the source was written anew."""

    async def work(engine: MemoryEngine) -> None:
        await put(engine, "old", BIG)
        target, real = await register(engine, "new"), engine.registers.change
        stands, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(key: RegisterKey, *rest: Any, **more: Any) -> bytes:
            if key == target and not stands.is_set():
                stands.set()
                await goes_on.wait()
            return await real(key, *rest, **more)

        engine.registers.change = slow  # type: ignore[method-assign]
        renaming = asyncio.create_task(engine.rename_object("b", "old", "new"))
        await stands.wait()
        await put(engine, "old", SMALL)
        assert await is_gone(engine, "new")
        goes_on.set()
        await renaming  # of what is there now
        assert await get(engine, "new") == SMALL and await is_gone(engine, "old")

    with_engine(work)


def test_a_name_lends_to_no_more_than_can_be_kept() -> None:
    async def work(engine: MemoryEngine) -> None:
        for number in range(LENT_MAX):
            await put(engine, "log", BIG)
            await engine.rename_object("b", "log", f"log.{number}")
        await put(engine, "log", BIG)
        with pytest.raises(TooManyRenames, match="copy the object"):
            await engine.rename_object("b", "log", "log.x")
        assert await get(engine, "log") == BIG and await get(engine, "log.0") == BIG

    with_engine(work)

"""Clocks that are hours wrong change nothing but timestamps: no acknowledged object is lost, and clients can go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from objstore.engine.engine import Engine
from objstore.model.errors import Conflict, GivenUp, NotFound, ObjstoreError
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.seeds import first_of

DAY_MS = 86_400_000
SECONDS = {"garbage_delay_s": 2.0, "orphan_age_s": 3600.0, "orphan_round_s": 2.0, "tombstone_age_s": 3600.0}
BIG = 90_000


async def body(data: bytes, gate: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    yield data[:50_000]
    if gate is not None:
        await gate.wait()
    yield data[50_000:]


async def get(engine: Engine, key: str) -> bytes:
    info = await engine.head_object("b", key)
    return b"".join([bytes(b) async for b in engine.read(info, 0, info.size)])


async def put(engine: Engine, key: str, data: bytes) -> int:
    """How often it was refused until it was acknowledged."""
    for refused in range(5):
        try:
            await engine.put_object("b", key, body(data), len(data), {})
        except GivenUp:
            continue
        return refused
    raise AssertionError("refused again and again")


def hold_commits(engine: Engine, gate: asyncio.Event) -> None:
    """Everything is stored, and not committed until the gate is opened."""
    objects = engine.put_object.__self__  # type: ignore[attr-defined]
    commit = objects.commit

    async def held(*args: object, **keywords: object) -> None:
        await gate.wait()
        await commit(*args, **keywords)

    objects.commit = held


@pytest.mark.parametrize("hours", [25, -25])
def test_a_repairer_whose_clock_jumps_while_clients_write_loses_nothing(hours: int) -> None:
    async def main() -> None:
        async with SimCluster(81, repair=SECONDS) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            assert await put(one, "old", bytes(BIG)) == 0
            upload = await one.create_upload("b", "parts", {})
            gate = asyncio.Event()
            contents = {f"k{i}": cluster.random.randbytes(BIG) for i in range(6)}
            segments = cluster.random.randbytes(300_000)
            hold_commits(two, gate)
            puts = [asyncio.ensure_future(put(two, key, data)) for key, data in contents.items()]
            part = asyncio.ensure_future(one.put_part("b", "parts", upload, 1, body(segments, gate), len(segments)))
            await asyncio.sleep(1)
            for process in ("repairer1", "repairer2"):
                cluster.clock(process).skew_ms = hours * 3_600_000
            await asyncio.sleep(30)
            gate.set()
            refused = await asyncio.gather(*puts)
            assert refused == [1 if hours > 0 else 0] * 6, "it takes them for old, and has them given up first"
            await one.complete_upload("b", "parts", upload, [(1, (await part).etag)])
            await asyncio.sleep(60)
            assert await get(one, "old") == bytes(BIG)
            assert await get(one, "parts") == segments
            for key, data in contents.items():
                assert await get(two, key) == data

    run(main, 81)


@pytest.mark.parametrize("hours", [25, -25, -250])
def test_a_gateway_whose_clock_is_wrong_writes_and_deletes_like_others(hours: int) -> None:
    """Also keys that were deleted and forgotten, whose floors may be above its clock."""

    async def main() -> None:
        async with SimCluster(82, repair={**SECONDS, "tombstone_age_s": 5.0}) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            cluster.clock("gateway2").skew_ms = hours * 3_600_000
            for _ in range(3):
                for first, second in ((one, two), (two, one)):
                    data = cluster.random.randbytes(BIG)
                    assert await put(first, "k", data) <= 1, "it knows better the next time"
                    assert await get(second, "k") == data
                    assert await put(second, "k", data[::-1]) <= 1
                    assert await get(first, "k") == data[::-1]
                    await first.delete_object("b", "k")
                    with pytest.raises(NotFound):
                        await get(second, "k")
                    await asyncio.sleep(20)

    run(main, 82)


@pytest.mark.parametrize("seed", first_of(2, range(4)))
def test_jumping_clocks_everywhere_lose_no_acknowledged_object(seed: int) -> None:
    async def main() -> None:
        async with SimCluster(seed, repair=SECONDS) as cluster:
            await cluster.engines[0].create_bucket("b")
            random = cluster.random
            latest: dict[str, bytes | None] = {}

            async def client(key: str) -> None:
                """The only writer of its key; after an unknown outcome it reads."""
                for _ in range(12):
                    engine = random.choice(cluster.engines)
                    data = random.randbytes(random.choice((100, BIG)))
                    try:
                        await engine.put_object("b", key, body(data), len(data), {})
                        latest[key] = data
                    except (Conflict, NotFound):
                        pass
                    except ObjstoreError:
                        latest[key] = await get(engine, key)
                    await asyncio.sleep(random.uniform(0, 1))
                    known = latest.get(key)
                    assert known is None or await get(random.choice(cluster.engines), key) == known

            async def jump() -> None:
                processes = ["gateway1", "gateway2", "repairer1", "repairer2", *(m.name for m in cluster.machines)]
                for _ in range(20):
                    cluster.clock(random.choice(processes)).skew_ms = random.choice((-2, -1, 0, 1, 2)) * DAY_MS
                    await asyncio.sleep(random.uniform(0, 1))

            async with asyncio.TaskGroup() as group:
                for i in range(4):
                    group.create_task(client(f"k{i}"))
                group.create_task(jump())
            await asyncio.sleep(60)
            for key, data in latest.items():
                assert data is None or await get(cluster.engines[0], key) == data

    run(main, seed)

"""Disks that fill up: one is avoided at no cost, too many refuse writes at once, and room mends all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from objstore.engine.engine import Engine
from objstore.model.cluster import is_at_least
from objstore.model.errors import InsufficientStorage
from objstore.wire.messages import FragList, FragListed
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.loop import run
from tests.sim.seeds import first_of

SIZES = (10, 40_000, 300_000, 1_500_000)  # in the register, in one message, and in streams
SAY_S = 3.0  # until everybody has heard how full a node is
LOOK_S = 0.3  # until the node itself has looked at its disk again
AT_ONCE_S = 0.5


async def body(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


class Shelf:
    """Objects through one gateway; every one that was acknowledged is remembered."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.kept: dict[str, bytes] = {}

    @property
    def engine(self) -> Engine:
        return self.cluster.engines[0]

    async def put(self, key: str, size: int) -> None:
        data = self.cluster.random.randbytes(size)
        await self.engine.put_object("b", key, body(data), size, {})
        self.kept[key] = data

    async def put_some(self, prefix: str, count: int) -> None:
        for number in range(count):
            await self.put(f"{prefix}{number:02}", SIZES[number % len(SIZES)])

    async def delete(self, key: str) -> None:
        await self.engine.delete_object("b", key)
        del self.kept[key]

    async def wrong(self) -> list[str]:
        wrong = []
        for key, data in self.kept.items():
            info = await self.engine.head_object("b", key)
            if b"".join([bytes(piece) async for piece in self.engine.read(info, 0, info.size)]) != data:
                wrong.append(f"{key} is not what was written")
        if [entry.key for entry in (await self.engine.list_objects("b")).entries] != sorted(self.kept):
            wrong.append("the list is not what was written")
        return wrong


def shrink(machine: SimNode, share: float) -> None:
    """What the node holds is that share of what it could hold."""
    assert machine.service is not None
    held = machine.service._space.usage().used
    machine.disk.capacity = machine.disk.used + int(held * (1 - share) / share)


def grow(machine: SimNode) -> None:
    machine.disk.capacity = 1 << 40


async def fragments(machine: SimNode) -> int:
    assert machine.service is not None
    count = 0
    for partition in range(machine.service._fragments.partitions):
        page, _ = await machine.service.handle(FragList(partition, b"", 65536), b"")
        assert isinstance(page, FragListed)
        count += len(page.fragments) // 21
    return count


async def one_full(seed: int) -> list[str]:
    async with SimCluster(seed, nodes=8) as cluster:
        await cluster.engines[0].create_bucket("b")
        shelf = Shelf(cluster)
        await shelf.put_some("old", 24)
        machine = cluster.machines[seed % 8]
        assert machine.service is not None
        shrink(machine, 0.94)
        heard = cluster.random.random() < 0.5  # else gateways learn it by being refused
        await asyncio.sleep(SAY_S if heard else LOOK_S)
        before = await fragments(machine)
        await shelf.put_some("new", 24)
        wrong = []
        if is_at_least(machine.service.report().level, "full") and await fragments(machine) > before:
            wrong.append("the full node took new data")
        survey = None
        for _ in range(40):
            await asyncio.sleep(0.5)
            survey = await cluster.survey()
            if survey is not None and survey.objects.total == survey.objects.full == len(shelf.kept):
                break
        else:
            wrong.append(f"not whole while a node is full: {survey}")
        wrong += await shelf.wrong()
        grow(machine)
        wrong.append(await cluster.converged(120.0))
        if await fragments(machine) <= before:
            wrong.append("its shards did not come home")
        return [*(one for one in wrong if one), *await shelf.wrong()]


async def all_full(seed: int) -> list[str]:
    async with SimCluster(seed, nodes=7, repair={"garbage_delay_s": 1.0}) as cluster:
        await cluster.engines[0].create_bucket("b")
        shelf = Shelf(cluster)
        await shelf.put_some("old", 24)
        for machine in cluster.machines:
            shrink(machine, 0.93)
        wrong = []
        heard = cluster.random.random() < 0.5
        await asyncio.sleep(SAY_S if heard else LOOK_S)
        for size in SIZES[1:]:
            began = cluster.loop.time()
            try:
                await shelf.put("none", size)
                wrong.append(f"a full cluster took {size} bytes")
            except InsufficientStorage:
                pass
            if heard and cluster.loop.time() - began > AT_ONCE_S:
                wrong.append(f"refusing {size} bytes took {cluster.loop.time() - began:.2f} s")
        wrong += await shelf.wrong()
        for key in [key for key in shelf.kept if key.startswith("old1")]:
            await shelf.delete(key)
        deadline = cluster.loop.time() + 60
        while True:
            try:
                await shelf.put("again", 300_000)
                break
            except InsufficientStorage as error:
                if cluster.loop.time() > deadline:
                    return [*wrong, f"the space of deleted objects did not come back: {error}"]
                await asyncio.sleep(0.5)
        wrong.append(await cluster.converged(120.0))
        return [*(one for one in wrong if one), *await shelf.wrong()]


@pytest.mark.parametrize("seed", first_of(2, range(6)))
def test_one_full_node_costs_nothing_and_gets_its_shards_when_it_has_room(seed: int) -> None:
    wrong, _ = run(lambda: one_full(seed), seed)
    assert not wrong


@pytest.mark.parametrize("seed", first_of(2, range(6)))
def test_a_full_cluster_refuses_at_once_and_works_again_after_deletes(seed: int) -> None:
    wrong, _ = run(lambda: all_full(seed), seed)
    assert not wrong

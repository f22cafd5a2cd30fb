"""The data path needs no coordinator (P7): not even where a gateway missed what the coordinator said last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import msgspec
import pytest

from objstore.cluster.port import MAP_KEY
from objstore.engine.engine import Engine
from objstore.model.cluster import ClusterMap, decode_map, encode_map
from objstore.model.limits import OPERATION_TIMEOUT_S
from objstore.recovery.procedure import Defaults, Recovery
from tests.sim.cluster import PARTITION_BITS, SimCluster, SimNode, SimRandom
from tests.sim.layouts import add, has_share
from tests.sim.loop import run
from tests.sim.network import SimTransport

T = TypeVar("T")

SIZES = (10, 300_000)  # in the register, and beside it
KEYS = 30  # so that every partition of metadata has some
IN_TIME_S = OPERATION_TIMEOUT_S / 2  # no operation needs its last attempt


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


def content(key: str, size: int) -> bytes:
    return key.encode() * (size // len(key))


async def put_all(engine: Engine, prefix: str) -> None:
    for number in range(KEYS):
        key, size = f"{prefix}{number:03}", SIZES[number % len(SIZES)]
        data = content(key, size)
        await in_time(engine.put_object("b", key, body(data), len(data), {}))


async def use(engine: Engine) -> None:
    """Every kind of request; all that was written before is there."""
    await put_all(engine, "new")
    listed = await in_time(engine.list_objects("b"))
    assert len(listed.entries) == 2 * KEYS
    for number in range(KEYS):
        for prefix in ("old", "new"):
            key, size = f"{prefix}{number:03}", SIZES[number % len(SIZES)]
            info = await in_time(engine.head_object("b", key))
            assert b"".join([bytes(piece) async for piece in engine.read(info, 0, info.size)]) == content(key, size)
    for number in range(KEYS):
        await in_time(engine.delete_object("b", f"old{number:03}"))
    assert len((await in_time(engine.list_objects("b"))).entries) == KEYS


async def in_time(operation: Awaitable[T]) -> T:
    async with asyncio.timeout(IN_TIME_S):
        return await operation


async def map_after(cluster: SimCluster, epoch: int) -> ClusterMap:
    """The next layout, once it holds."""
    while True:
        found = decode_map(cluster.peek(MAP_KEY) or b"")
        if found.current.epoch > epoch and found.next is None:
            return found
        await asyncio.sleep(0.2)


def separate(cluster: SimCluster, process: str) -> None:
    cluster.network.blocked |= {(process, "coordinator"), ("coordinator", process)}


def test_a_recovery_is_above_every_layout_that_a_node_remembers() -> None:
    """An old copy of the coordinator's data was put back; the nodes have seen what came after."""

    async def main() -> None:
        async with SimCluster(32) as cluster:
            now = decode_map(cluster.peek(MAP_KEY) or b"")
            later = msgspec.structs.replace(now, current=msgspec.structs.replace(now.current, epoch=50))
            for machine in cluster.machines[:2]:
                assert machine.service is not None
                machine.service._newest_map = lambda: encode_map(later)
            transport = SimTransport(cluster.network, "operator")
            defaults = Defaults(cluster.code, PARTITION_BITS, cluster.codec)
            coordinator = cluster.coordinator("operator")
            found = await Recovery(coordinator, transport, SimRandom(1), defaults, lambda *_: None).examine()
            assert found.planned.progress > later.progress

    run(main, 32)


async def lose_one(cluster: SimCluster) -> None:
    """A node goes out: others stand in for it."""
    epoch = decode_map(cluster.peek(MAP_KEY) or b"").current.epoch
    cluster.kill(cluster.machines[3])
    await map_after(cluster, epoch)


async def join_one(cluster: SimCluster) -> None:
    """A new node takes its share from the others."""
    machine: SimNode = cluster.add_machine()
    await cluster.start_node(machine)
    await add(cluster, machine)
    assert await has_share(cluster, machine)


@pytest.mark.parametrize("change", [lose_one, join_one])
@pytest.mark.parametrize("missed", ["cut off", "paused"])
@pytest.mark.parametrize("coordinator", ["for others", "dead", "dark"])
def test_a_gateway_that_missed_a_layout_change_learns_of_it_from_the_nodes(
    missed: str, coordinator: str, change: object
) -> None:
    assert callable(change)

    async def main() -> None:
        async with SimCluster(31) as cluster:
            await cluster.at("gateway1", lambda engine: engine.create_bucket("b"))
            await cluster.at("gateway1", lambda engine: put_all(engine, "old"))
            if missed == "paused":
                cluster.freeze("gateway1")
            separate(cluster, "gateway1")
            await change(cluster)
            if coordinator != "for others":
                cluster.stop("coordinator", dark=coordinator == "dark")
            cluster.thaw("gateway1")
            before = cluster.engines[0].peers.topology.epoch
            await cluster.at("gateway1", use)
            assert cluster.engines[0].peers.topology.epoch > before

    run(main, 31)

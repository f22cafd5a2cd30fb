"""Without a quorum the answer is an error within five seconds (P2), whatever is asked and however large it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from objstore.engine.engine import Engine
from objstore.engine.types import ObjectInfo, WriteCondition
from objstore.engine.writing import PUT_TIMEOUT_S
from objstore.model import limits
from objstore.model.errors import PreconditionFailed, Unavailable
from tests.sim.cluster import SimCluster
from tests.sim.loop import run

MARGIN_S = 0.5  # of the time that local work and the messages before the loss take


async def body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1_000_000):
        yield data[start : start + 1_000_000]


@pytest.mark.parametrize("left", [0, 2, 4])
@pytest.mark.parametrize("size", [10, 100_000, 3_000_000, 9_000_000, 80_000_000])
def test_a_write_that_reaches_too_few_nodes_ends_in_time(size: int, left: int) -> None:
    """The gateway is cut off from the others, in silence, while their leases hold. `left` is k at most: too few."""

    async def main() -> None:
        async with SimCluster(5) as cluster:

            async def put(engine: Engine) -> None:
                await engine.put_object("b", "k", body(bytes(size)), size, {})

            await cluster.at("gateway1", lambda engine: engine.create_bucket("b"))
            await cluster.at("gateway1", put)
            for machine in cluster.machines[left:]:
                cluster.network.blocked |= {("gateway1", machine.name), (machine.name, "gateway1")}
            loop = asyncio.get_running_loop()
            start = loop.time()
            with pytest.raises(Unavailable):
                await cluster.at("gateway1", put)
            assert loop.time() - start < limits.OPERATION_TIMEOUT_S + MARGIN_S

    run(main, 5)


@pytest.mark.parametrize("size", [100_000, 3_000_000, 9_000_000])
def test_m_nodes_that_hang_delay_a_write_but_cost_no_shard(size: int) -> None:
    """The one may be asked to stand in for the other: then the write waits for both, one after the other."""

    async def main() -> None:
        async with SimCluster(6) as cluster:

            async def put(engine: Engine) -> ObjectInfo:
                return await engine.put_object("b", "k", body(bytes(size)), size, {})

            await cluster.at("gateway1", lambda engine: engine.create_bucket("b"))
            for machine in cluster.machines[:2]:
                cluster.network.blocked |= {("gateway1", machine.name), (machine.name, "gateway1")}
            loop = asyncio.get_running_loop()
            start = loop.time()
            info = await cluster.at("gateway1", put)
            assert all(blob.absent == () for blob in info.blobs)
            assert loop.time() - start < 2 * PUT_TIMEOUT_S + MARGIN_S

    run(main, 6)


@pytest.mark.parametrize("seed", range(3))
def test_many_creators_of_one_key_do_not_outbid_each_other(seed: int) -> None:
    """Each needs a few messages, not a hundred."""

    async def main() -> None:
        async with SimCluster(seed) as cluster:

            async def create(number: int) -> bool:
                async def put(engine: Engine) -> None:
                    await engine.put_object("b", "k", body(b"x"), 1, {}, condition=WriteCondition(if_none_match="*"))

                try:
                    await cluster.at(f"gateway{number % 2 + 1}", put)
                except PreconditionFailed:
                    return False
                return True

            await cluster.at("gateway1", lambda engine: engine.create_bucket("b"))
            loop = asyncio.get_running_loop()
            start, before = loop.time(), cluster.network.messages
            won = await asyncio.gather(*(create(number) for number in range(50)))
            assert won.count(True) == 1
            assert cluster.network.messages - before < 50 * 20
            assert loop.time() - start < 1.0

    run(main, seed)

"""Buckets as gateways know them: what one remembers never stands against what another has changed (INV-8)."""

from __future__ import annotations

import asyncio

import pytest

from objstore.engine.buckets import _Shared
from objstore.engine.engine import Engine
from objstore.model.errors import QuorumLost
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.unit.repair.rig import body


async def made_anew(one: Engine, two: Engine) -> None:
    """`one` deletes the bucket that `two` remembers, makes it anew and writes keys, one of which was there."""
    await one.create_bucket("b")
    await two.put_object("b", "k", body(b"x"), 1, {})
    await two.delete_object("b", "k")
    await one.delete_bucket("b")
    await one.create_bucket("b")
    for key in ("k", "l"):
        await one.put_object("b", key, body(b"new"), 3, {})


@pytest.mark.parametrize("key", ["k", "l"])
def test_an_object_of_a_bucket_that_was_made_anew_elsewhere_is_found(key: str) -> None:
    """A gateway that looked only where the bucket used to be would say that an acknowledged object does not exist."""

    async def main() -> None:
        async with SimCluster(4, nodes=6) as sim:
            one, two = sim.engines
            await made_anew(one, two)
            assert (await two.head_object("b", key)).size == 3

    run(main, 4)


def test_a_deletion_in_a_bucket_that_was_made_anew_elsewhere_deletes_there() -> None:
    """A gateway that deleted in the bucket that it remembers would say so, and the object would stay."""

    async def main() -> None:
        async with SimCluster(4, nodes=6) as sim:
            one, two = sim.engines
            await made_anew(one, two)
            assert (await two.delete_object("b", "k")).version_id == "null"
            assert [entry.key for entry in (await one.list_objects("b")).entries] == ["l"]

    run(main, 4)


def test_a_shared_read_that_gets_no_answer_does_not_hold_up_the_next() -> None:
    async def main() -> None:
        loop, begun = asyncio.get_running_loop(), 0

        async def work() -> int:
            nonlocal begun
            begun += 1
            await asyncio.sleep(5.0)  # until it is given up
            raise QuorumLost("nobody answers")

        shared = _Shared(work)
        at = loop.time()
        found = await asyncio.gather(*(shared.run() for _ in range(20)), return_exceptions=True)
        assert all(isinstance(one, QuorumLost) for one in found) and begun == 2
        assert loop.time() - at < 6.0

    run(main, 1)


def test_every_answer_of_a_shared_read_began_after_its_caller_asked() -> None:
    """Who joined a read that was already running could be told of a bucket what was true before its own write, and
    would not see the mark of a deleter (INV-8)."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> float:
            begun = loop.time()
            await asyncio.sleep(0.3)
            return begun

        shared = _Shared(work)

        async def ask(delay_s: float) -> float:
            await asyncio.sleep(delay_s)
            asked = loop.time()
            begun = await shared.run()
            assert begun >= asked
            return begun

        begun = await asyncio.gather(*(ask(number * 0.07) for number in range(40)))
        assert len(set(begun)) < len(begun), "nothing was shared"

    run(main, 1)

"""Two gateways that pass each other: one stops before a change of a register while the other goes on.

Every pair of places to stop is tried. However long a gateway takes, at most one of two contradicting operations
says that it succeeded, and what is there afterwards is what that one said (INV-7, INV-8, INV-9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from objstore.engine.engine import Engine
from objstore.engine.types import WriteCondition
from objstore.model.errors import PreconditionFailed
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.unit.repair.rig import MappedCluster, Repaired, body, get
from tests.unit.repair.test_endings import IMPATIENT, PART, Gate, objects_of, upload_of


class Pause:
    """Holds a gateway up before its n-th change of a register from now on."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.reached, self._open, self._left = asyncio.Event(), asyncio.Event(), number
        registers = engine.complete_upload.__self__._registers  # type: ignore[attr-defined]
        self._change = registers.change
        registers.change = self._held

    async def _held(self, *args: Any, **keywords: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            await self._open.wait()
        return await self._change(*args, **keywords)

    def open(self) -> None:
        self._open.set()

    async def begin(self, operation: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Until it stops here, or is over, having changed fewer registers."""
        task, waiting = asyncio.ensure_future(operation), asyncio.ensure_future(self.reached.wait())
        await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return task


async def ended(*tasks: asyncio.Task[Any]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def succeeded(outcome: Any) -> bool:
    return not isinstance(outcome, BaseException)


async def half_completed(sim: SimCluster) -> tuple[str, list[tuple[int, str]]]:
    """An upload of two parts beside an object, after an attempt to complete it that was refused at its commit."""
    one, two = sim.engines
    await one.create_bucket("b")
    await one.put_object("b", "k", body(b"old"), 3, {})
    upload, named = await upload_of(one, "k", bytes(PART), b"tail")
    with pytest.raises(PreconditionFailed):
        await two.complete_upload("b", "k", upload, named, condition=WriteCondition(if_none_match="*"))
    await Repaired(sim, IMPATIENT).start("r1")
    return upload, named


@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("second", [1, 2, 3, 4])
def test_an_abort_and_a_complete_that_pass_each_other_never_both_succeed(first: int, second: int) -> None:
    """An abort that goes by what it saw of an earlier attempt would end an upload that is making its object (INV-9)."""

    async def main() -> None:
        async with MappedCluster(71) as sim:
            one, two = sim.engines
            upload, named = await half_completed(sim)
            before, after = Pause(one, first), Pause(two, second)
            abort = await before.begin(one.abort_upload("b", "k", upload))
            complete = await after.begin(two.complete_upload("b", "k", upload, named[1:]))
            before.open()
            outcomes = await ended(abort)
            after.open()
            outcomes += await ended(complete)
            await asyncio.sleep(40)  # for the collector to go by what is recorded
            aborted, made = map(succeeded, outcomes)
            assert not (aborted and made), outcomes
            assert await get(two, "b", "k") == (b"tail" if made else b"old")

    run(main, 71)


@pytest.mark.parametrize("first", [1, 2, 3, 4])
@pytest.mark.parametrize("second", [1, 2, 3, 4])
def test_of_two_completes_with_other_parts_that_pass_each_other_one_makes_the_object(first: int, second: int) -> None:
    """Were an attempt taken up by somebody who wants other parts, both would say that the object is theirs, or neither,
    or the parts of the one that won would go (INV-7, INV-9)."""

    async def main() -> None:
        async with MappedCluster(76) as sim:
            one, two = sim.engines
            upload, named = await half_completed(sim)
            before, after = Pause(one, first), Pause(two, second)
            head = await before.begin(one.complete_upload("b", "k", upload, named[:1]))
            tail = await after.begin(two.complete_upload("b", "k", upload, named[1:]))
            before.open()
            outcomes = await ended(head)
            after.open()
            outcomes += await ended(tail)
            await asyncio.sleep(40)
            won = [succeeded(outcome) for outcome in outcomes]
            assert sum(won) == 1, outcomes
            assert await get(two, "b", "k") == (bytes(PART) if won[0] else b"tail")

    run(main, 76)


def test_a_bucket_is_not_deleted_under_an_object_whose_writer_has_seen_the_mark() -> None:
    """The deleter has marked the bucket and found it empty, the writer has committed and seen the mark: now either the
    deletion fails or the write does (INV-8). A writer that did not look at what its keeping of the bucket came to would
    say that its object is stored, in a bucket that is gone."""

    async def main() -> None:
        async with MappedCluster(74) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            await two.list_objects("b")  # knows the bucket from now on
            removing, keeping = Pause(one, 2), Pause(two, 2)
            delete = await removing.begin(one.delete_bucket("b"))
            assert removing.reached.is_set()
            put = await keeping.begin(two.put_object("b", "k", body(b"x"), 1, {}))
            assert keeping.reached.is_set()
            removing.open()
            outcomes = await ended(delete)
            keeping.open()
            outcomes += await ended(put)
            gone, kept = map(succeeded, outcomes)
            assert not (gone and kept), outcomes

    run(main, 74)


def test_a_part_whose_commit_takes_long_keeps_its_bytes_while_a_complete_is_stuck() -> None:
    """An attempt that has not committed ends nothing: the upload may still be completed with other parts (INV-7)."""

    async def main() -> None:
        async with MappedCluster(75) as sim:
            one, two = sim.engines
            await one.create_bucket("b")
            upload, named = await upload_of(one, "k", bytes(PART))
            slow = Pause(one, 1)
            data = sim.random.randbytes(300_000)
            put = await slow.begin(one.put_part("b", "k", upload, 2, body(data), len(data)))
            assert slow.reached.is_set()
            stuck = Gate(objects_of(two), "commit")
            dead = asyncio.ensure_future(two.complete_upload("b", "k", upload, named[:1]))
            await stuck.reached.wait()
            await Repaired(sim, IMPATIENT).start("r1")
            await asyncio.sleep(60)
            slow.open()
            named.append((2, (await put).etag))
            await one.complete_upload("b", "k", upload, named)
            await asyncio.sleep(30)
            assert await get(one, "b", "k") == bytes(PART) + data
            dead.cancel()

    run(main, 75)

"""Group commit: what shares a commit, in which order, and who fails with whom."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from random import Random

import pytest

from objstore.model.errors import Fatal, InsufficientStorage, ObjstoreError, Overloaded, Unavailable
from objstore.node import commit as commit_module
from objstore.node.commit import GroupCommit, Planned
from objstore.node.journal import TABLE, Journal
from objstore.node.journal_format import encode_floor
from objstore.node.pace import Pace
from objstore.node.volumes import BLOCK, Volumes
from objstore.ports import Write
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV
from tests.unit.node.rig import CLUSTER, run


class Parts:
    def __init__(self, capacity: int | None = None, quick_s: float = 0.0) -> None:
        self.disk = SimDisk()
        self.kv = SimKV(["t", TABLE], capacity)
        self.volumes = Volumes(self.disk, volume_bytes=4 * BLOCK)
        self.volumes.recover([])
        self.fatal: list[Fatal] = []
        self.journal = Journal(self.disk, CLUSTER, "n" * 16, lambda: b"saltsalt", file_bytes=4096)
        self.journal.recover(self.kv)
        self.commits = GroupCommit(self.kv, self.volumes, self.journal, self.fatal.append, Pace(quick_s))
        self.settled: list[tuple[str, ObjstoreError | None]] = []

    def submit(self, name: str, value: bytes = b"v", volumes: Sequence[int] = ()) -> asyncio.Future[None]:
        writes: list[Write] = [("t", name.encode(), value)]
        return self.commits.submit(writes, volumes=volumes, settled=lambda error: self.settled.append((name, error)))

    def stored(self) -> list[str]:
        return [key.decode() for key, _ in self.kv.scan("t", b"")]


def test_all_that_waits_shares_one_commit() -> None:
    async def main() -> None:
        parts = Parts()
        await asyncio.gather(*[parts.submit(f"k{i:02d}") for i in range(50)])
        assert parts.kv.commits == 1
        assert [name for name, _ in parts.settled] == [f"k{i:02d}" for i in range(50)]

    run(main())


def test_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "BATCH_WRITES_MAX", 10)

    async def main() -> None:
        parts = Parts()
        await asyncio.gather(*[parts.submit(f"k{i:02d}") for i in range(25)])
        assert parts.kv.commits == 3

    run(main())


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "QUEUE_ENTRIES_MAX", 3)

    async def main() -> None:
        parts = Parts()
        waiting = [parts.submit(f"k{i}") for i in range(3)]
        with pytest.raises(Overloaded):
            parts.submit("late")
        await asyncio.gather(*waiting)
        assert parts.stored() == ["k0", "k1", "k2"]
        assert "late" not in dict(parts.settled)

    run(main())


def test_an_entry_without_writes_waits_for_all_before_it() -> None:
    async def main() -> None:
        parts = Parts()
        parts.submit("k")
        await parts.commits.submit()
        assert parts.stored() == ["k"]
        await parts.commits.submit()
        assert parts.kv.commits == 1

    run(main())


def test_a_plan_sees_everything_before_it_and_nothing_after() -> None:
    async def main() -> None:
        parts = Parts()
        seen: list[list[str]] = []

        def plan() -> Planned:
            seen.append(parts.stored())
            return Planned([("t", key.encode(), None) for key in parts.stored()])

        parts.submit("a")
        planned = parts.commits.submit(plan=plan)
        last = parts.submit("z")
        await asyncio.gather(planned, last)
        assert seen == [["a"]]
        assert parts.stored() == ["z"]

    run(main())


def test_a_cancelled_waiter_changes_nothing_for_its_entry() -> None:
    async def main() -> None:
        parts = Parts()

        async def waiter() -> None:
            await parts.submit("k")

        task = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        task.cancel()
        await parts.commits.close()
        assert task.cancelled() and parts.stored() == ["k"]
        assert parts.settled == [("k", None)]

    run(main())


def test_a_full_index_fails_the_batch_and_all_that_built_on_it_and_stores_nothing() -> None:
    async def main() -> None:
        parts = Parts(capacity=100)
        await parts.submit("first")
        waiting = [parts.submit("huge", bytes(200)), parts.submit("small")]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [InsufficientStorage, InsufficientStorage]
        assert parts.stored() == ["first"]
        assert not parts.fatal
        await parts.submit("after")
        assert parts.stored() == ["after", "first"]

    run(main())


def test_what_was_queued_behind_a_batch_that_found_the_index_full_fails_with_it() -> None:
    """It was decided on the states that the batch would have stored: stored alone, it would answer for what is not
    durable (INV-2)."""

    async def main() -> None:
        parts = Parts()
        commit = parts.kv.commit
        behind: list[asyncio.Future[None]] = []

        def full_once(writes: Sequence[Write]) -> None:
            if not behind:
                behind.extend((parts.submit("b"), parts.submit("c")))
                raise OSError(errno.ENOSPC, "full")
            commit(writes)

        parts.kv.commit = full_once  # type: ignore[method-assign]
        first = await asyncio.gather(parts.submit("a"), return_exceptions=True)
        results = [*first, *await asyncio.gather(*behind, return_exceptions=True)]
        assert [type(result) for result in results] == [InsufficientStorage] * 3
        assert parts.stored() == [] and not parts.fatal
        await parts.submit("after")
        assert parts.stored() == ["after"]

    run(main())


def test_a_full_volume_fails_only_those_who_wrote_to_it() -> None:
    async def main() -> None:
        parts = Parts()
        extent = parts.volumes.reserve(BLOCK)
        parts.disk.fail_sync = OSError(errno.ENOSPC, "full")
        waiting = [parts.submit("fragment", volumes=[extent.volume]), parts.submit("register")]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], InsufficientStorage) and results[1] is None
        assert parts.stored() == ["register"]
        assert not parts.fatal

    run(main())


@pytest.mark.parametrize("where", ["sync", "commit"])
def test_any_other_disk_error_ends_the_node(where: str) -> None:
    async def main() -> None:
        parts = Parts()
        extent = parts.volumes.reserve(BLOCK)
        error = OSError(errno.EIO, "bad sector")
        if where == "sync":
            parts.disk.fail_sync = error
        else:
            parts.kv.fail_commit = error
        waiting = [parts.submit("a", volumes=[extent.volume]), parts.submit("b")]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        assert len(parts.fatal) == 1 and "bad sector" in str(parts.fatal[0])
        parts.disk.fail_sync = parts.kv.fail_commit = None
        with pytest.raises(Unavailable, match="stopped serving"):
            parts.submit("c")
        assert parts.stored() == []
        assert [name for name, error in parts.settled if error is not None] == ["a", "b"]

    run(main())


def test_a_bug_in_the_committer_answers_everybody() -> None:
    async def main() -> None:
        parts = Parts()
        waiting = [parts.commits.submit([("no such table", b"k", b"v")]), parts.submit("b")]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert len(parts.fatal) == 1

    run(main())


def test_what_is_acknowledged_survives_a_crash() -> None:
    async def main() -> None:
        parts = Parts()
        extent = parts.volumes.reserve(BLOCK)
        parts.volumes.file(extent.volume).pwrite(b"x" * BLOCK, extent.offset)
        done = parts.submit("a", volumes=[extent.volume])
        assert not parts.stored() and not done.done()
        await done
        parts.disk.crash(Random(1))
        again = Volumes(parts.disk, volume_bytes=4 * BLOCK)
        again.recover([extent])
        assert again.file(extent.volume).pread(BLOCK, extent.offset) == b"x" * BLOCK
        assert parts.stored() == ["a"]

    run(main())


@pytest.mark.parametrize("quick_s", [0.0, 60.0])
def test_light_batches_are_stored_on_the_loop_where_that_is_quick_in_the_order_of_submit(quick_s: float) -> None:
    parts = Parts(quick_s=quick_s)
    threads: list[str] = []

    async def main() -> None:
        parts.kv.before_change = lambda: None
        done = [parts.submit("heavy")]
        for name in "abc":
            done.append(
                parts.commits.submit(
                    [("t", name.encode(), b"v")],
                    records=[encode_floor(1, b"b" * 16)],
                    light=True,
                    settled=lambda error, name=name: threads.append(name),  # type: ignore[misc]
                )
            )
        await asyncio.gather(*done)
        began = parts.commits.batches
        light = parts.commits.submit([("t", b"d", b"v")], records=[encode_floor(1, b"c" * 16)], light=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert light.done() == (quick_s > 0)
        await light
        assert parts.commits.batches == began + 1 and not parts.commits.is_busy
        await parts.commits.flush()
        assert parts.stored() == ["a", "b", "c", "d", "heavy"]
        await parts.commits.close()

    run(main())
    assert threads == ["a", "b", "c"]

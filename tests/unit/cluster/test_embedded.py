"""The embedded coordinator over its disk: what survives a restart, and what a failing disk does."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import pytest

from objstore.adapters.randomness import SystemRandom
from objstore.cluster.embedded import KEY_BYTES_MAX, TABLE, CoordinatorService, RemoteCoordinator, open_coordinator
from objstore.cluster.port import CLUSTER_KEY
from objstore.model.errors import InsufficientStorage, InvalidRequest, Unavailable
from objstore.ports import Write
from objstore.wire import messages as msg
from tests.contract.test_coordinator import DirectTransport
from tests.sim.coordinator import ManualClock
from tests.sim.kv import SimKV

Life = Callable[[RemoteCoordinator, CoordinatorService], Awaitable[None]]


def lives(kv: SimKV, *bodies: Life, clock: ManualClock | None = None) -> None:
    """Each body sees the coordinator of one process; after each the process crashes."""
    clock = clock or ManualClock()

    async def main() -> None:
        for body in bodies:
            service = await open_coordinator(kv, clock, SystemRandom(), name="test")
            await body(RemoteCoordinator(DirectTransport(service), "here"), service)
            await service.close()
            kv.crash(Random(0))

    asyncio.run(main())


def test_the_first_start_names_the_cluster_once_and_for_all() -> None:
    seen = []

    async def look(co: RemoteCoordinator, service: CoordinatorService) -> None:
        found = await co.get(CLUSTER_KEY)
        assert found is not None
        seen.append(json.loads(found.value))

    lives(SimKV([TABLE]), look, look)
    assert seen[0] == seen[1]
    assert seen[0]["name"] == "test" and len(bytes.fromhex(seen[0]["id"])) == 16


def test_persistent_keys_survive_a_crash_and_leased_ones_do_not() -> None:
    async def fill(co: RemoteCoordinator, service: CoordinatorService) -> None:
        lease = await co.grant(10)
        await co.put("kept", b"1")
        await co.put("kept", b"2")
        await co.put("gone", b"1")
        await co.delete("gone")
        await co.put("leased", b"1", lease=lease)
        await co.put("once persistent", b"1")
        await co.put("once persistent", b"2", lease=lease)

    async def look(co: RemoteCoordinator, service: CoordinatorService) -> None:
        entries, _ = await co.range("")
        assert {entry.key: entry.value for entry in entries if entry.key != CLUSTER_KEY} == {"kept": b"2"}

    lives(SimKV([TABLE]), fill, look)


def test_a_compare_and_swap_works_across_a_restart() -> None:
    seen = []

    async def fill(co: RemoteCoordinator, service: CoordinatorService) -> None:
        seen.append(await co.put("a", b"1"))

    async def swap(co: RemoteCoordinator, service: CoordinatorService) -> None:
        assert await co.put("a", b"x", expected=0) is None
        assert await co.put("a", b"2", expected=seen[0]) is not None

    lives(SimKV([TABLE]), fill, swap)


def test_revisions_and_leases_rise_over_restarts_also_when_nothing_persistent_changed() -> None:
    seen: list[int] = []

    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        lease = await co.grant(10)
        seen.append(lease)
        for _ in range(3):
            revision = await co.put("nodes/a", b"1", lease=lease)
            assert revision is not None
            seen.append(revision)
        clock.advance(11)
        _, revision = await co.range("")  # the end of the lease took a revision, too
        seen.append(revision)

    clock = ManualClock()
    lives(SimKV([TABLE]), use, use, use, clock=clock)
    assert seen == sorted(set(seen))


def test_more_numbers_than_are_reserved_at_once_stay_below_the_durable_ceiling() -> None:
    seen: list[int] = []

    async def burn(co: RemoteCoordinator, service: CoordinatorService) -> None:
        for _ in range(5000):
            seen.append(await co.grant(10))

    async def next_one(co: RemoteCoordinator, service: CoordinatorService) -> None:
        seen.append(await co.grant(10))

    kv = SimKV([TABLE])
    lives(kv, burn, next_one)
    assert seen[-1] > seen[-2]
    assert kv.commits < 10, "numbers are reserved in blocks, not one by one"


def test_a_lease_of_the_life_before_is_unknown() -> None:
    seen = []

    async def hold(co: RemoteCoordinator, service: CoordinatorService) -> None:
        seen.append(await co.grant(60))

    async def ask(co: RemoteCoordinator, service: CoordinatorService) -> None:
        await co.grant(60)
        assert await co.keep_alive(seen[0]) is False

    lives(SimKV([TABLE]), hold, ask)


def test_a_leader_is_not_replaced_while_its_forgotten_lease_could_last() -> None:
    clock = ManualClock()

    async def lead(co: RemoteCoordinator, service: CoordinatorService) -> None:
        assert await co.put("leader", b"me", lease=await co.grant(8), expected=0) is not None

    async def follow(co: RemoteCoordinator, service: CoordinatorService) -> None:
        lease = await co.grant(8)
        assert await co.put("leader", b"you", lease=lease, expected=0) is None
        clock.advance(7)
        assert await co.keep_alive(lease)
        assert await co.put("leader", b"you", lease=lease, expected=0) is None
        clock.advance(1)
        assert await co.put("leader", b"you", lease=lease, expected=0) is not None

    lives(SimKV([TABLE]), lead, follow, clock=clock)


def test_what_the_disk_refused_is_not_visible_and_a_full_disk_is_not_the_end() -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        kv.fail_commit = OSError(errno.ENOSPC, "full")
        with pytest.raises(InsufficientStorage):
            await co.put("a", b"1")
        assert await co.get("a") is None
        assert not service.broken.done()
        kv.fail_commit = None
        assert await co.put("a", b"2", expected=0) is not None

    kv = SimKV([TABLE])
    lives(kv, use)


def test_a_failing_disk_stops_the_coordinator() -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        kv.fail_commit = OSError(errno.EIO, "I/O error")
        with pytest.raises(Unavailable):
            await co.put("a", b"1")
        kv.fail_commit = None
        assert service.broken.done()
        with pytest.raises(Unavailable):
            await co.put("a", b"2")
        assert await co.get("a") is None

    kv = SimKV([TABLE])
    lives(kv, use)


class SlowKV(SimKV):
    """Commits wait in their thread until they are let go."""

    def __init__(self) -> None:
        super().__init__([TABLE])
        self.gate: asyncio.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def commit(self, writes: Sequence[Write]) -> None:
        if self.gate is not None and self.loop is not None:
            asyncio.run_coroutine_threadsafe(self.gate.wait(), self.loop).result()
        super().commit(writes)


def test_nobody_sees_a_change_before_it_is_durable() -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        kv.gate, kv.loop = asyncio.Event(), asyncio.get_running_loop()
        put = asyncio.create_task(co.put("a", b"1"))
        await asyncio.sleep(0)
        assert await co.get("a") is None
        assert await co.watch("a", (await co.range(""))[1], 0.01) == (await co.range(""))[1]
        kv.gate.set()
        assert await put is not None
        assert await co.get("a") is not None

    kv = SlowKV()
    lives(kv, use)


def test_a_change_whose_asker_has_gone_ends_all_the_same() -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        kv.gate, kv.loop = asyncio.Event(), asyncio.get_running_loop()
        put = asyncio.create_task(co.put("a", b"1"))
        await asyncio.sleep(0)
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)
        assert put.cancelled()
        kv.gate.set()
        assert await co.put("b", b"1") is not None
        assert await co.get("a") is not None, "memory and disk agree"

    async def look(co: RemoteCoordinator, service: CoordinatorService) -> None:
        kv.gate = None
        assert await co.get("a") is not None

    kv = SlowKV()
    lives(kv, use, look)


def test_leases_are_kept_alive_while_the_disk_is_slow() -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        lease = await co.grant(10)
        kv.gate, kv.loop = asyncio.Event(), asyncio.get_running_loop()
        put = asyncio.create_task(co.put("a", b"1"))
        await asyncio.sleep(0)
        assert await co.keep_alive(lease) is True
        assert not put.done()
        kv.gate.set()
        await put

    kv = SlowKV()
    lives(kv, use)


@pytest.mark.parametrize("key", ["", "k" * (KEY_BYTES_MAX + 1), "é" * (KEY_BYTES_MAX // 2 + 1)])
def test_a_key_without_or_with_too_many_bytes_is_refused(key: str) -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        with pytest.raises(InvalidRequest):
            await service.handle(msg.CoPut(key, b""), b"")

    lives(SimKV([TABLE]), use)


def test_messages_for_nodes_are_refused() -> None:
    async def use(co: RemoteCoordinator, service: CoordinatorService) -> None:
        with pytest.raises(InvalidRequest, match="NodeStats"):
            await service.handle(msg.NodeStats(), b"")

    lives(SimKV([TABLE]), use)

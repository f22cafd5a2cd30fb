"""The plain file beside the coordinator's store: it brings cluster and map back, and is never behind the store."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from objstore.adapters.randomness import SystemRandom
from objstore.cluster.embedded import TABLE, CoordinatorService, RemoteCoordinator, open_coordinator
from objstore.cluster.mirror import FILE
from objstore.cluster.port import CLUSTER_KEY, MAP_KEY
from objstore.model.errors import Fatal, InsufficientStorage
from tests.contract.test_coordinator import DirectTransport
from tests.sim.coordinator import ManualClock
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV

Life = Callable[[RemoteCoordinator, CoordinatorService], Awaitable[None]]


def live(kv: SimKV, disk: SimDisk, body: Life, *, cluster_id: str = "") -> None:
    async def main() -> None:
        service = await open_coordinator(
            kv, ManualClock(), SystemRandom(), name="test", disk=disk, cluster_id=cluster_id
        )
        try:
            await body(RemoteCoordinator(DirectTransport(service), "here"), service)
        finally:
            await service.close()

    asyncio.run(main())
    kv.crash(Random(0))
    disk.crash(Random(0))


async def nothing(co: RemoteCoordinator, service: CoordinatorService) -> None:
    pass


def test_cluster_and_map_come_back_without_the_store_and_other_keys_do_not() -> None:
    disk = SimDisk()
    seen: dict[str, object] = {}

    async def fill(co: RemoteCoordinator, service: CoordinatorService) -> None:
        seen["map"] = await co.put(MAP_KEY, b"first", expected=0)
        await co.put("survey", b"much")
        seen["map"] = await co.put(MAP_KEY, b"second", expected=seen["map"])  # type: ignore[arg-type]
        seen["cluster"] = await co.get(CLUSTER_KEY)

    async def look(co: RemoteCoordinator, service: CoordinatorService) -> None:
        found = await co.get(MAP_KEY)
        assert found is not None and (found.value, found.revision) == (b"second", seen["map"])
        assert await co.get(CLUSTER_KEY) == seen["cluster"]
        assert await co.get("survey") is None

    live(SimKV([TABLE]), disk, fill)
    live(SimKV([TABLE]), disk, look)


def test_no_revision_or_lease_is_given_out_twice_though_the_store_was_lost() -> None:
    disk = SimDisk()
    given: list[int] = []

    async def work(co: RemoteCoordinator, service: CoordinatorService) -> None:
        numbers = [await co.grant(5.0) for _ in range(3)]
        for i in range(5000):  # beyond the numbers reserved at first
            numbers.append(await co.put("survey", b"%d" % i) or 0)
        assert min(numbers) > max(given, default=0)
        given.extend(numbers)

    for _ in range(3):
        live(SimKV([TABLE]), disk, work)


def test_leases_may_last_as_long_as_before_though_the_store_was_lost() -> None:
    disk = SimDisk()

    async def hold(co: RemoteCoordinator, service: CoordinatorService) -> None:
        lease = await co.grant(30.0)
        assert await co.put("leader", b"a", lease=lease, expected=0)

    async def take(co: RemoteCoordinator, service: CoordinatorService) -> None:
        lease = await co.grant(30.0)
        assert await co.put("leader", b"b", lease=lease, expected=0) is None, "the holder may still rely on it"

    live(SimKV([TABLE]), disk, hold)
    live(SimKV([TABLE]), disk, take)


def test_where_both_are_there_the_store_counts_and_the_file_is_put_right() -> None:
    kv, disk = SimKV([TABLE]), SimDisk()

    async def put(co: RemoteCoordinator, service: CoordinatorService) -> None:
        await co.put(MAP_KEY, b"map")

    live(kv, disk, put)
    for spoilt in (b"", b"{}", b"nonsense"):
        disk.write_file(FILE, spoilt)
        live(kv, disk, nothing)
        assert json.loads(disk.read_file(FILE))["kept"]["rows"].keys() == {CLUSTER_KEY, MAP_KEY}


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-20], lambda raw: raw.replace(b'"ceiling": 4', b'"ceiling": 5')])
def test_a_damaged_file_without_a_store_is_not_guessed_at(spoil: Callable[[bytes], bytes]) -> None:
    disk = SimDisk()
    live(SimKV([TABLE]), disk, nothing)
    raw = disk.read_file(FILE)
    assert spoil(raw) != raw
    disk.write_file(FILE, spoil(raw))
    with pytest.raises(Fatal, match="objstore recover"):
        live(SimKV([TABLE]), disk, nothing)


def test_a_map_that_the_store_refused_is_in_neither() -> None:
    kv, disk = SimKV([TABLE]), SimDisk()

    async def refuse(co: RemoteCoordinator, service: CoordinatorService) -> None:
        await co.put(MAP_KEY, b"good")
        kv.fail_commit = OSError(errno.ENOSPC, "full")
        with pytest.raises(InsufficientStorage):
            await co.put(MAP_KEY, b"refused")
        found = await co.get(MAP_KEY)
        assert found is not None and found.value == b"good"

    async def look(co: RemoteCoordinator, service: CoordinatorService) -> None:
        found = await co.get(MAP_KEY)
        assert found is not None and found.value == b"good"

    live(kv, disk, refuse)
    live(SimKV([TABLE]), disk, look)


def test_an_empty_coordinator_takes_the_place_of_one_that_is_gone_and_a_full_one_does_not() -> None:
    kv, disk = SimKV([TABLE]), SimDisk()

    async def look(co: RemoteCoordinator, service: CoordinatorService) -> None:
        found = await co.get(CLUSTER_KEY)
        assert found is not None and json.loads(found.value)["id"] == "ab" * 16

    live(kv, disk, look, cluster_id="ab" * 16)
    live(kv, disk, look, cluster_id="ab" * 16)
    live(kv, disk, look)
    with pytest.raises(Fatal, match="holds the cluster abab"):
        live(kv, disk, look, cluster_id="cd" * 16)

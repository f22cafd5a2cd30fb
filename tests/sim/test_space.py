"""Space comes back: whatever clients did and however gateways died, what stays is what live objects need, exactly."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from objstore.engine.engine import Engine
from objstore.model.errors import NoSuchUpload, ObjstoreError
from objstore.model.manifest import FragmentId
from objstore.wire.messages import FragList, FragListed
from tests.sim.cluster import Gone, SimCluster
from tests.sim.loop import run
from tests.sim.network import NetworkFaults
from tests.sim.seeds import first_of

SECONDS = {
    "garbage_delay_s": 2.0,
    "orphan_age_s": 8.0,
    "orphan_round_s": 3.0,
    "upload_age_s": 10.0,
    "tombstone_age_s": 5.0,
}
SLOW = NetworkFaults(delay_s=(0.002, 0.03))  # so that gateways die in the middle of things
KEYS = ("k0", "k1", "k2", "k3")
SIZES = (10, 40_000, 90_000, 300_000)


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Clients:
    """Put, overwrite, delete, upload in parts, complete, abort; until they are told to stop."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        end = self.cluster.loop.time() + seconds
        while self.cluster.loop.time() < end:
            action = self.cluster.random.choice((self._put, self._put, self._delete, self._upload))
            gateway = self.cluster.random.choice(("gateway1", "gateway2"))
            name = action.__name__
            try:
                await self.cluster.at(gateway, action)
                self.done[name] += 1
            except (ObjstoreError, Gone) as error:
                self.failed[type(error).__name__] += 1
            await asyncio.sleep(self.cluster.random.uniform(0, 0.3))

    async def _put(self, engine: Engine) -> None:
        random = self.cluster.random
        data = random.randbytes(random.choice(SIZES))
        await engine.put_object("b", random.choice(KEYS), body(data), len(data), {})

    async def _delete(self, engine: Engine) -> None:
        await engine.delete_object("b", self.cluster.random.choice(KEYS))

    async def _upload(self, engine: Engine) -> None:
        random = self.cluster.random
        key = random.choice(KEYS)
        upload = await engine.create_upload("b", key, {})
        for _ in range(random.randrange(1, 3)):
            data = random.randbytes(random.choice(SIZES))
            part = await engine.put_part("b", key, upload, 1, body(data), len(data))
            named = [(1, part.etag)]
        fate = random.choice(("complete", "abort", "leave"))
        if fate == "abort":
            await engine.abort_upload("b", key, upload)
        elif fate == "complete":
            await engine.complete_upload("b", key, upload, named)


async def kill_gateways(cluster: SimCluster, seconds: float) -> int:
    end, killed = cluster.loop.time() + seconds, 0
    while cluster.loop.time() < end:
        await asyncio.sleep(cluster.random.uniform(0.05, 0.6))
        gateway = cluster.random.choice(("gateway1", "gateway2"))
        cluster.stop(gateway)
        killed += 1
        await cluster.start(gateway)
    return killed


async def held(cluster: SimCluster) -> Counter[bytes]:
    """Every fragment on every node, and how often it is there."""
    found: Counter[bytes] = Counter()
    for machine in cluster.machines:
        assert machine.service is not None
        for partition in range(machine.service._fragments.partitions):
            page, _ = await machine.service.handle(FragList(partition, b"", 65536), b"")
            assert isinstance(page, FragListed) and not page.more
            found.update(page.fragments[i : i + 21] for i in range(0, len(page.fragments), 21))
    return found


async def needed(engine: Engine) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for entry in (await engine.list_objects("b")).entries:
        for ref in (await engine.head_object("b", entry.key)).blobs:
            for segment in range(ref.segments):
                found.update(FragmentId(ref.id, segment, shard).pack() for shard in range(ref.k + ref.m))
    return found


def used(cluster: SimCluster) -> int:
    return sum(machine.service._volumes.kept_bytes for machine in cluster.machines if machine.service)


def registers(cluster: SimCluster) -> int:
    return sum(machine.service.stats().registers for machine in cluster.machines if machine.service)


async def settles(cluster: SimCluster, engine: Engine, within_s: float = 200.0) -> str:
    """ "" once nodes hold what is needed and nothing else."""
    end = cluster.loop.time() + within_s
    while True:
        have, want = await held(cluster), await needed(engine)
        if have == want:
            return ""
        if cluster.loop.time() > end:
            return f"{(have - want).total()} fragments too many, {(want - have).total()} too few"
        await asyncio.sleep(1.0)


async def scenario(seed: int) -> list[str]:
    async with SimCluster(seed, nodes=7, repair=SECONDS, faults=SLOW) as cluster:
        await cluster.engines[0].create_bucket("b")
        clients = Clients(cluster)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(clients.run(12.0))
            killing = group.create_task(kill_gateways(cluster, 12.0))
        assert killing.result() > 10 and clients.failed["Gone"] > 5, "gateways die in the middle of things"
        assert all(clients.done[name] > 2 for name in ("_put", "_delete", "_upload"))
        engine = cluster.engines[0]
        for upload in (await engine.list_uploads("b")).uploads:  # those that were left open are their clients'
            with contextlib.suppress(NoSuchUpload):  # it has made its object, and its gateway died then
                await engine.abort_upload("b", upload.key, upload.upload_id)
        wrong = [await settles(cluster, engine)]
        kept = registers(cluster)
        for entry in (await engine.list_objects("b")).entries:
            info = await engine.head_object("b", entry.key)
            data = b"".join([bytes(b) async for b in engine.read(info, 0, info.size)])
            assert len(data) == entry.size
            await engine.delete_object("b", entry.key)
        wrong.append(await settles(cluster, engine))
        await engine.delete_bucket("b")
        for _ in range(200):
            await asyncio.sleep(1.0)
            if not registers(cluster):
                break
        wrong.append("" if not registers(cluster) else f"{registers(cluster)} registers are left of {kept}")
        wrong.append("" if not used(cluster) else f"{used(cluster)} bytes are still in use")
        return [one for one in wrong if one]


@pytest.mark.parametrize("seed", first_of(2, range(5)))
def test_what_stays_is_what_live_objects_need_and_in_the_end_nothing(seed: int) -> None:
    wrong, _ = run(lambda: scenario(seed), seed)
    assert not wrong

"""Ambushes of what was acknowledged: all power gone, disks that rot, an index lost, too few shards."""

from __future__ import annotations

import asyncio

from objstore.engine.engine import Engine
from objstore.model import limits
from objstore.model.errors import Conflict, NotFound, ObjstoreError
from objstore.node.service import TABLES
from tests.sim.ambush.bodies import fetch, put
from tests.sim.ambush.counting import Counter
from tests.sim.ambush.quorums import SMALL, owners, restart
from tests.sim.cluster import SimCluster
from tests.sim.kv import SimKV
from tests.sim.loop import run

SIZES = (100, 20_000, 40_000, 300_000, 1_200_000)


class Keeper:
    """Puts new objects, and knows which were acknowledged."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.bodies: dict[str, bytes] = {}
        self._count = 0

    async def put_one(self, engine: Engine, size: int = 0) -> bool:
        self._count += 1
        key = f"k{self._count}"
        body = self.cluster.random.randbytes(size or self.cluster.random.choice(SIZES))
        try:
            await put(engine, "b", key, body)
        except ObjstoreError:
            return False
        self.bodies[key] = body
        return True

    async def client(self, engine: Engine, until: float) -> None:
        while self.cluster.loop.time() < until:
            await self.put_one(engine)
            await asyncio.sleep(self.cluster.random.uniform(0, 0.05))

    async def missing(self) -> list[str]:
        """Acknowledged objects that do not come back byte for byte, through a gateway chosen for each."""
        wrong = []
        for key, body in self.bodies.items():
            try:
                got = await fetch(self.cluster.random.choice(self.cluster.engines), "b", key)
            except ObjstoreError as error:
                wrong.append(f"{key} of {len(body)} bytes is lost: {type(error).__name__}: {error}")
            else:
                if got != body:
                    wrong.append(f"{key} of {len(body)} bytes came back with wrong bytes")
        return wrong


def blackout(seed: int) -> list[str]:
    """Every machine loses power in the middle of writes, twice. What was acknowledged must be there at once."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=7, repairer_count=1) as cluster:
            await cluster.engines[0].create_bucket("b")
            keeper = Keeper(cluster)
            for machine in cluster.machines:
                cluster.loop.slow_jobs[machine.name] = 0.02
            for _ in range(2):
                end = cluster.loop.time() + cluster.random.uniform(0.2, 1.0)
                clients = [asyncio.ensure_future(keeper.client(engine, end)) for engine in cluster.engines * 2]
                await asyncio.sleep(end - cluster.loop.time())
                for machine in cluster.machines:
                    cluster.kill(machine, power=True)
                await restart(cluster)
                await asyncio.gather(*clients)
                await asyncio.sleep(1.0)
            return await keeper.missing()

    return run(main, seed)[0]


def rot(seed: int) -> list[str]:
    """Bytes flip all over the disk of one machine, while another is off, or loses its disk and is rebuilt."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=7, repairer_count=1) as cluster:
            random = cluster.random
            await cluster.engines[0].create_bucket("b")
            keeper = Keeper(cluster)
            for size in SIZES[2:] * 2:
                await keeper.put_one(cluster.engines[0], size)
            rotten, lost = random.sample(cluster.machines, 2)
            _spoil(cluster, rotten.name)
            fate = random.choice(("spared", "off", "empty"))
            if fate != "spared":
                cluster.kill(lost)
            if fate == "empty":
                cluster.wipe(lost)
                await cluster.start_node(lost)
                if left := await cluster.converged(120):
                    return [left]
            return await keeper.missing()

    return run(main, seed)[0]


def rebuilt(seed: int) -> list[str]:
    """Two machines are gone for good, and what they held is made whole from the others. Then two of those go."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=9, repairer_count=1) as cluster:
            await cluster.engines[0].create_bucket("b")
            keeper = Keeper(cluster)
            for size in SIZES[2:] * 2:
                await keeper.put_one(cluster.engines[0], size)
            gone = cluster.random.sample(cluster.machines, 4)
            for machine in gone[:2]:
                cluster.kill(machine)
            if left := await cluster.whole(120):
                return [left]
            for machine in gone[2:]:
                cluster.kill(machine)
            return await keeper.missing()

    return run(main, seed)[0]


def _spoil(cluster: SimCluster, name: str) -> None:
    """Flip one byte in every few KiB of its volumes."""
    machine = next(machine for machine in cluster.machines if machine.name == name)
    for file in machine.disk.list_dir("volumes"):
        path = f"volumes/{file}"
        size = machine.disk.open(path).size()
        for offset in range(cluster.random.randrange(700, 4096), size, 8192):
            machine.disk.flip(path, offset)


def amnesia(seed: int) -> list[str]:
    """One owner misses some writes, another loses its index. Together they are a majority that must not form."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=5, code=SMALL, repairer_count=1) as cluster:
            counter = Counter(cluster)
            await counter.add(cluster.engines[0])
            behind, forgetful, good = cluster.random.sample(await owners(cluster, counter), 3)
            cluster.kill(behind)
            for _ in range(5):
                await counter.add(cluster.random.choice(cluster.engines))
            cluster.kill(forgetful)
            forgetful.kv = SimKV(TABLES)
            await cluster.start_node(forgetful)
            await cluster.start_node(behind)
            cluster.pause(good)
            await asyncio.sleep(0.5)
            for engine in cluster.engines:
                try:
                    await counter.add(engine)
                except ObjstoreError:
                    continue
            cluster.resume(good)
            if left := await cluster.converged(90):
                return [left]
            return await counter.finish()

    return run(main, seed)[0]


def thin(seed: int) -> list[str]:
    """Writes while as many nodes are off as the code can lose, and then one of the others loses its disk for good.

    With 6 nodes and two of them off no write can have the k+1 shards that an answer needs; with one off it can."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            random = cluster.random
            await cluster.engines[0].create_bucket("b")
            keeper = Keeper(cluster)
            off = random.sample(cluster.machines, random.choice((1, 2)))
            for machine in off:
                cluster.kill(machine)
            for _ in range(4):
                await keeper.put_one(random.choice(cluster.engines), random.choice(SIZES[2:]))
            cluster.loop.kill("repairer1")
            lost = random.choice([machine for machine in cluster.machines if machine.up])
            cluster.kill(lost)
            cluster.wipe(lost)
            for machine in off:
                await cluster.start_node(machine)
            await asyncio.sleep(5.0)
            return await keeper.missing()

    return run(main, seed)[0]


def handoff(seed: int) -> list[str]:
    """Writes while two owners are off: others stand in, and no shard may be missing. Then the two come back and two
    others go: what was handed off must be found where it is."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=9, repairer_count=1) as cluster:
            random = cluster.random
            await cluster.engines[0].create_bucket("b")
            keeper = Keeper(cluster)
            off = random.sample(cluster.machines, 2)
            for machine in off:
                cluster.kill(machine)
            await asyncio.sleep(random.choice((0.0, 1.0, 2.5)))
            for _ in range(6):
                await keeper.put_one(random.choice(cluster.engines), random.choice(SIZES[2:]))
            wrong = await _debts(cluster, keeper)
            cluster.loop.kill("repairer1")
            for machine in off:
                await cluster.start_node(machine)
            await asyncio.sleep(3.0)
            for machine in random.sample([machine for machine in cluster.machines if machine not in off], 2):
                cluster.kill(machine)
            return wrong + await keeper.missing()

    return run(main, seed)[0]


async def _debts(cluster: SimCluster, keeper: Keeper) -> list[str]:
    """INV-5: while k+m members answer, an object has all its shards when it is acknowledged."""
    wrong = []
    for key in keeper.bodies:
        info = await cluster.engines[0].head_object("b", key)
        wrong += [f"{key} lacks shards {blob.absent}" for blob in info.blobs if blob.absent]
    return wrong


def slow_put(seed: int) -> list[str]:
    """A body that comes more slowly than orphans are waited for: refused in the end, or kept; never lost. One that
    comes a little faster than that is no orphan and must not be refused."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            random = cluster.random
            one, two = cluster.engines
            await one.create_bucket("b")
            body = random.randbytes(4_000_000)
            wrong = []
            for key, seconds, must in (
                ("soon", random.uniform(20, 50), True),
                ("late", random.uniform(80, 140), False),
            ):
                try:
                    await put(one, "b", key, body, pieces=4, pause_s=seconds / 3)
                except (Conflict, NotFound) as error:
                    if must:
                        wrong.append(f"a body that took {seconds:.0f} s was refused: {error}")
                    continue
                for pause_s in (0, 90):
                    await asyncio.sleep(pause_s)
                    try:
                        if await fetch(two, "b", key) != body:
                            wrong.append(f"{key} has wrong bytes")
                    except ObjstoreError as error:
                        wrong.append(f"{key} was acknowledged and is lost: {error}")
            return wrong

    size, limits.SEGMENT_SIZE = limits.SEGMENT_SIZE, limits.MIB  # some are on disks long before the last byte comes
    try:
        return run(main, seed)[0]
    finally:
        limits.SEGMENT_SIZE = size

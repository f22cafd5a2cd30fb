"""Ambushes of buckets: one is deleted by one gateway while others write to it."""

from __future__ import annotations

import asyncio

from objstore.engine.engine import Engine
from objstore.model.errors import ObjstoreError
from tests.sim.ambush.bodies import fetch, put
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.network import NetworkFaults


def buckets(seed: int) -> list[str]:
    """INV-8: an object that was acknowledged is never in a deleted bucket."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            cluster.network.faults = NetworkFaults(slow=0.1, slow_s=0.05)
            wrong: list[str] = []
            for name in ("one", "two", "three", "four"):
                wrong += await _race(cluster, name)
            return wrong

    return run(main, seed)[0]


async def _race(cluster: SimCluster, bucket: str) -> list[str]:
    random = cluster.random
    await cluster.engines[0].create_bucket(bucket)
    for engine in cluster.engines:
        await engine.list_objects(bucket)  # both know it
    keys = [f"k{number}" for number in range(3)]
    jobs = [_put(cluster, random.choice(cluster.engines), bucket, key) for key in keys]
    jobs += [_delete(cluster, random.choice(cluster.engines), bucket) for _ in range(random.choice((1, 2)))]
    results = await asyncio.gather(*jobs)
    deleted = any(results[len(keys) :])
    kept = [key for key, done in zip(keys, results[: len(keys)], strict=True) if done]
    if deleted and kept:
        return [f"bucket {bucket} was deleted, and {kept} were acknowledged in it"]
    lost = []
    for key in kept:
        try:
            lost += [] if await fetch(cluster.engines[0], bucket, key) == key.encode() else [key]
        except ObjstoreError as error:
            lost.append(f"{key} of bucket {bucket} was acknowledged: {error}")
    return lost


async def _put(cluster: SimCluster, engine: Engine, bucket: str, key: str) -> bool:
    await asyncio.sleep(cluster.random.uniform(0, 0.03))
    try:
        await put(engine, bucket, key, key.encode())
    except ObjstoreError:
        return False
    return True


async def _delete(cluster: SimCluster, engine: Engine, bucket: str) -> bool:
    await asyncio.sleep(cluster.random.uniform(0, 0.03))
    try:
        await engine.delete_bucket(bucket)
    except ObjstoreError:
        return False
    return True

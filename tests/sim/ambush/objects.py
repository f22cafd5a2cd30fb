"""Ambushes of objects: races for one key, writes with unknown ends, lists over replicas that are behind."""

from __future__ import annotations

import asyncio

from objstore.engine.engine import Engine
from objstore.engine.types import WriteCondition
from objstore.model.errors import NoSuchKey, ObjstoreError, PreconditionFailed
from tests.sim.ambush.bodies import fetch, put
from tests.sim.ambush.quorums import both
from tests.sim.cluster import SimCluster
from tests.sim.loop import run

ONLY_IF_NEW = WriteCondition(if_none_match="*")


def races(seed: int) -> list[str]:
    """Many create the same key through two gateways, and one of them does; nothing else is wrong."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            await cluster.engines[0].create_bucket("b")
            wrong = []
            for key in ("one", "two", "three"):
                bodies = [b"%d" % number * 100 for number in range(8)]
                tries = [_create(cluster, cluster.random.choice(cluster.engines), key, body) for body in bodies]
                winners = [body for body, won in zip(bodies, await asyncio.gather(*tries), strict=True) if won]
                if len(winners) != 1 or await fetch(cluster.engines[0], "b", key) != winners[0]:
                    wrong.append(f"{len(winners)} of {len(bodies)} were told that they created {key}")
            return wrong

    return run(main, seed)[0]


async def _create(cluster: SimCluster, engine: Engine, key: str, body: bytes) -> bool:
    await asyncio.sleep(cluster.random.uniform(0, 0.01))
    try:
        await put(engine, "b", key, body, condition=ONLY_IF_NEW)
    except PreconditionFailed:
        return False
    return True


def unknown(seed: int) -> list[str]:
    """So many messages are lost that writes end without an answer. What of them is there is there as a whole."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            random = cluster.random
            await cluster.engines[0].create_bucket("b")
            bodies = {f"k{number}": random.randbytes(random.choice((40_000, 300_000))) for number in range(12)}

            async def one(key: str) -> None:
                try:
                    await put(random.choice(cluster.engines), "b", key, bodies[key])
                except ObjstoreError:
                    return

            tasks = [asyncio.ensure_future(one(key)) for key in bodies]
            await asyncio.sleep(random.uniform(0.003, 0.02))
            links = [(gateway, machine.name) for gateway in ("gateway1", "gateway2") for machine in cluster.machines]
            cluster.network.blocked = {(b, a) for a, b in links}  # answers get lost, requests get through
            await asyncio.gather(*tasks)
            cluster.network.blocked = set()
            await asyncio.sleep(5.0)
            wrong = []
            for key, body in bodies.items():
                try:
                    if await fetch(cluster.engines[0], "b", key) != body:
                        wrong.append(f"{key} has wrong bytes")
                except NoSuchKey:
                    continue
                except ObjstoreError as error:
                    wrong.append(f"{key} is listed and cannot be read: {error}")
            return wrong

    return run(main, seed)[0]


def lists(seed: int) -> list[str]:
    """Keys are written and deleted while one node hears nothing of it. Lists that ask it are right all the same."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            random = cluster.random
            await cluster.engines[0].create_bucket("b")
            keys = [f"k{number:02}" for number in range(16)]
            for key in keys:
                await put(cluster.engines[0], "b", key, b"old")
            deaf = random.choice(cluster.machines).name
            cluster.network.blocked = both(*((name, deaf) for name in ("gateway1", "gateway2", "repairer1")))
            etags = {}
            for key in keys:
                engine = random.choice(cluster.engines)
                if random.random() < 0.5:
                    await engine.delete_object("b", key)
                else:
                    etags[key] = (await put(engine, "b", key, key.encode())).etag
            cluster.network.blocked = set()
            await asyncio.sleep(0.6)
            wrong = []
            for engine in cluster.engines:
                page = await engine.list_objects("b")
                listed = {entry.key: entry.etag for entry in page.entries}
                if listed != etags:
                    differ = sorted(key for key in keys if listed.get(key) != etags.get(key))
                    wrong.append(f"the list is wrong about {differ}")
            return wrong

    return run(main, seed)[0]

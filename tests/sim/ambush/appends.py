"""Ambushes of appends: many at one offset, writes anew of the same size between them, answers that get lost."""

from __future__ import annotations

import asyncio
import contextlib

from objstore.engine.engine import Engine
from objstore.engine.keystate import state_of
from objstore.engine.types import ObjectInfo
from objstore.model.errors import Conflict, ObjstoreError
from objstore.model.records import RegisterKey, Space
from objstore.register.change import body_of
from tests.sim.ambush.bodies import chunks, fetch, put
from tests.sim.cluster import SimCluster
from tests.sim.loop import run

SIZES = (500, 20_000, 90_000)  # of what is there: inline, at the brink of it, in a blob
MORE = 15_000


def appends(seed: int) -> list[str]:
    """INV-22: an append goes behind the very bytes that it looked at, or nowhere; of two at one offset one does."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            await cluster.engines[0].create_bucket("b")
            wrong: list[str] = []
            for number, size in enumerate(SIZES):
                wrong += await _race(cluster, f"raced{number}", size)
                wrong += await _overtaken(cluster, f"overtaken{number}", size)
                wrong += await _unanswered(cluster, f"unanswered{number}", size)
            wrong += await _collected(cluster, "collected")
            return wrong

    return run(main, seed)[0]


async def append(engine: Engine, base: ObjectInfo, data: bytes) -> ObjectInfo:
    return await engine.append_object("b", base.key, base, chunks(data), len(data), {})


async def _race(cluster: SimCluster, key: str, size: int) -> list[str]:
    """Several gateways append at each of a few offsets; what is there is what was told."""
    whole = b"0" * size
    await put(cluster.engines[0], "b", key, whole)
    for turn in range(3):
        base = await cluster.engines[0].head_object("b", key)
        bodies = [b"%d" % (turn * 4 + number) * (MORE // 2) for number in range(4)]
        tries = [_append(cluster, cluster.random.choice(cluster.engines), base, body) for body in bodies]
        told = [body for body, done in zip(bodies, await asyncio.gather(*tries), strict=True) if done]
        if len(told) != 1:
            return [f"{len(told)} of {len(bodies)} were told that they appended to {key}"]
        whole += told[0]
        if await fetch(cluster.engines[0], "b", key) != whole:
            return [f"{key} is not what was appended to it"]
    return []


async def _append(cluster: SimCluster, engine: Engine, base: ObjectInfo, body: bytes) -> bool:
    await asyncio.sleep(cluster.random.uniform(0, 0.01))
    try:
        await append(engine, base, body)
    except Conflict:
        return False
    return True


async def _overtaken(cluster: SimCluster, key: str, size: int) -> list[str]:
    """Whoever writes anew is never undone by an append to what was there before."""
    random = cluster.random
    for turn in range(4):
        old, new, more = (bytes((turn * 3 + kind,)) * length for kind, length in ((1, size), (2, size), (3, MORE)))
        await put(cluster.engines[0], "b", key, old)
        base = await cluster.engines[0].head_object("b", key)

        async def write(body: bytes) -> None:
            await asyncio.sleep(random.uniform(0, 0.01))
            await put(cluster.engines[1], "b", key, body)

        await asyncio.gather(write(new), _append(cluster, cluster.engines[0], base, more))
        if await fetch(cluster.engines[0], "b", key) != new:
            return [f"{key} was written anew, and an append brought back what was there before"]
    return []


async def _unanswered(cluster: SimCluster, key: str, size: int) -> list[str]:
    """Answers get lost, so nobody is told. It is there as a whole or not at all, and what is there can be read."""
    random = cluster.random
    old, more = b"a" * size, random.randbytes(MORE * 5)
    await put(cluster.engines[0], "b", key, old)
    base = await cluster.engines[0].head_object("b", key)
    task = asyncio.ensure_future(append(cluster.engines[0], base, more))
    await asyncio.sleep(random.uniform(0.003, 0.02))
    cluster.network.blocked = {(machine.name, "gateway1") for machine in cluster.machines}
    told = None
    with contextlib.suppress(ObjstoreError):
        told = await task
    cluster.network.blocked = set()
    await asyncio.sleep(5.0)
    try:
        found = await fetch(cluster.engines[1], "b", key)
    except ObjstoreError as error:
        return [f"{key} cannot be read: {error}"]
    return [] if found == old + more or (found == old and told is None) else [f"{key} has wrong bytes"]


async def _collected(cluster: SimCluster, key: str) -> list[str]:
    """Many small appends while garbage is collected: of what was written again nothing stays, the rest is all there."""
    whole = b"0" * 40_000
    await put(cluster.engines[0], "b", key, whole)
    for number in range(24):
        engine = cluster.random.choice(cluster.engines)
        more = bytes((number,)) * cluster.random.choice((10, 2_000, 50_000))
        await append(engine, await engine.head_object("b", key), more)
        whole += more
        await asyncio.sleep(cluster.random.uniform(0, 1.0))
    await asyncio.sleep(40.0)
    info = await cluster.engines[0].head_object("b", key)
    if await fetch(cluster.engines[1], "b", key) != whole:
        return [f"{key} is not what was appended to it"]
    left = await _retired(cluster.engines[0], key)
    return [f"{left} blobs of {key} were never collected, {len(info.blobs)} are in use"] if left else []


async def _retired(engine: Engine, key: str) -> int:
    bucket = await engine.get_bucket("b")
    value = await engine.registers.read(RegisterKey(bucket.id, Space.OBJECT, key.encode()))
    return len(state_of(body_of(value)).retired)

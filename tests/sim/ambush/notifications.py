"""Ambushes of event notifications: a target that fails and whose answers get lost, gateways and repairers that die."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from objstore.engine.engine import Engine
from objstore.engine.keystate import state_of
from objstore.engine.types import Deleted, ObjectInfo
from objstore.model import bucketconfig
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BucketId
from objstore.model.notification import BucketNotification, Rule
from objstore.model.records import RegisterKey, Space
from objstore.notify.courier import Courier
from objstore.notify.sender import Sender, Target
from objstore.ports import Clock
from objstore.register.change import body_of
from tests.sim.ambush.bodies import put
from tests.sim.cluster import Gone, SimCluster
from tests.sim.loop import run

KEYS = 8
WRITES = 6  # of each key, one after the other
TOLD_S = 120.0
REFUSES, FORGETS = 0.3, 0.15  # of its answers


class FlakySender(Sender):
    """To one target that all processes share: takes what it answers, and some of what it does not."""

    def __init__(self, cluster: SimCluster, clock: Clock, taken: list[dict[str, Any]]) -> None:
        super().__init__({"hook": Target("http://hook/")}, "r", clock)
        self._random = cluster.random
        self._taken = taken

    async def attempt(self, target: str, body: bytes, delivery_id: str) -> str:
        await asyncio.sleep(self._random.uniform(0, 0.05))
        if self._random.random() < REFUSES:
            return "it answered 503"
        self._taken.append(json.loads(body)["Records"][0])
        return "it did not answer" if self._random.random() < FORGETS else ""


def notifications(seed: int) -> list[str]:
    """INV-20: of every acknowledged write its target is told, in the order of the writes of each key."""

    async def main() -> list[str]:
        taken: list[dict[str, Any]] = []
        cluster = SimCluster(seed, nodes=6, repairer_count=2)
        cluster.sender = lambda process: FlakySender(cluster, cluster.clock(process), taken)
        async with cluster:
            for number, engine in enumerate(cluster.engines, 1):
                _listen(cluster, engine, f"gateway{number}", taken)
            rules = BucketNotification((Rule("r", "hook", ("ObjectCreated:*", "ObjectRemoved:*")),))
            made = await cluster.engines[0].create_bucket("b", config=bucketconfig.encoded(rules))
            trouble = asyncio.ensure_future(_trouble(cluster, taken))
            told = await asyncio.gather(*(_client(cluster, f"k{number}") for number in range(KEYS)))
            await trouble
            left = await _left(cluster.engines[0], made.id)
            if left:
                return [f"still pending: {left}"]
            return [fault for number, acks in enumerate(told) for fault in _missing(f"k{number}", acks, taken)]

    return run(main, seed)[0]


def _listen(cluster: SimCluster, engine: Engine, process: str, taken: list[dict[str, Any]]) -> None:
    engine.on_event(Courier(engine.registers, FlakySender(cluster, cluster.clock(process), taken)).hear)


async def _trouble(cluster: SimCluster, taken: list[dict[str, Any]]) -> None:
    random = cluster.random
    await asyncio.sleep(random.uniform(0.0, 0.4))
    cluster.stop("gateway2")
    await asyncio.sleep(random.uniform(0.0, 8.0))
    cluster.stop("repairer1")
    await asyncio.sleep(random.uniform(0.0, 3.0))
    await cluster.start("gateway2")
    while "gateway2" not in cluster.ready:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    _listen(cluster, cluster.engines[1], "gateway2", taken)


async def _client(cluster: SimCluster, key: str) -> list[str]:
    """What was acknowledged, in order: the ETag of a PUT, "" for a DELETE that found something."""
    random = cluster.random
    acks: list[str] = []
    for number in range(WRITES):
        gateway = random.choice(["gateway1", "gateway2"])
        if gateway not in cluster.ready:
            gateway = "gateway1"
        with contextlib.suppress(ObjstoreError, Gone):
            if random.random() < 0.3:

                async def delete(engine: Engine) -> Deleted:
                    return await engine.delete_object("b", key)

                if (await cluster.at(gateway, delete)).version_id:
                    acks.append("")
            else:
                body = f"{key} {number}".encode() * random.choice([1, 5000])

                async def write(engine: Engine, body: bytes = body) -> ObjectInfo:
                    return await put(engine, "b", key, body)

                acks.append((await cluster.at(gateway, write)).etag)
        await asyncio.sleep(random.uniform(0, 0.2))
    return acks


async def _left(engine: Engine, bucket: BucketId) -> list[str]:
    """Keys with pending events, when there have been some for long."""
    end = asyncio.get_running_loop().time() + TOLD_S
    while True:
        left = []
        for number in range(KEYS):
            key = RegisterKey(bucket, Space.OBJECT, f"k{number}".encode())
            if state_of(body_of(await engine.registers.read(key))).events:
                left.append(key.name.decode())
        if not left or asyncio.get_running_loop().time() > end:
            return left
        await asyncio.sleep(1.0)


def _missing(key: str, acks: list[str], taken: list[dict[str, Any]]) -> list[str]:
    """The events of the key in the order that their names say have those of what was acknowledged, in its order."""
    things = {
        record["s3"]["object"]["sequencer"]: record["s3"]["object"].get("eTag", "")
        for record in taken
        if record["s3"]["object"]["key"] == key
    }
    told = iter([etag for _, etag in sorted(things.items())])
    return [f"nobody was told of write {ack or 'DELETE'} of {key}, in its place" for ack in acks if ack not in told]

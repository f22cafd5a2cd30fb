"""Seeded clients against a simulated cluster, faults while they run, and the judgement of what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from math import inf

from objstore.engine.engine import Engine
from objstore.engine.types import ALWAYS, WriteCondition
from objstore.model.errors import Conflict, NotFound, ObjstoreError, Unavailable
from tests.sim.cluster import SimCluster
from tests.sim.linearize import Op, check

CONDITIONS = {
    "": ALWAYS,
    "absent": WriteCondition(if_none_match="*"),
    "present": WriteCondition(if_match="*"),
}


async def one_chunk(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


@dataclass
class Workload:
    """Clients put, get, delete and list a few keys through all gateways until `operations` are done."""

    cluster: SimCluster
    keys: int = 3
    clients: int = 4
    operations: int = 12  # per client
    bucket: str = "bucket"
    history: dict[str, list[Op]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)  # ETag -> body, of every body ever sent
    wrong: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(self.clients):
                group.create_task(self._client(client))

    async def _client(self, client: int) -> None:
        random = self.cluster.random
        for _ in range(self.operations):
            engine = self.cluster.engines[random.randrange(len(self.cluster.engines))]
            key = f"key{random.randrange(self.keys)}"
            action = random.choice(("put", "put", "put", "get", "get", "delete", "list"))
            await asyncio.sleep(random.uniform(0, 0.5))
            if action == "put":
                await self._put(engine, key)
            elif action == "get":
                await self._get(engine, key)
            elif action == "delete":
                await self._delete(engine, key)
            else:
                await self._list(engine)

    def _now(self) -> float:
        return self.cluster.loop.time()

    def _record(self, key: str, op: Op) -> None:
        self.history.setdefault(key, []).append(op)

    async def _put(self, engine: Engine, key: str) -> None:
        random = self.cluster.random
        data = random.randbytes(random.choice((10, 3000, 40_000, 90_000)))
        condition = random.choice(("", "", "absent", "present"))
        start = self._now()
        try:
            async with asyncio.timeout(random.uniform(0, 0.05) if random.random() < 0.1 else None):
                info = await engine.put_object(
                    self.bucket, key, one_chunk(data), len(data), {}, condition=CONDITIONS[condition]
                )
        except (Conflict, NotFound):
            self._record(key, Op("write", start, self._now(), None, condition, ok=False))
        except (Unavailable, TimeoutError):  # a client that hung up does not know either
            etag = _etag(data)
            self.contents[etag] = data
            self._record(key, Op("write", start, inf, etag, condition))
        else:
            self.contents[info.etag] = data
            self._record(key, Op("write", start, self._now(), info.etag, condition))

    async def _delete(self, engine: Engine, key: str) -> None:
        start = self._now()
        try:
            await engine.delete_object(self.bucket, key)
        except Unavailable:
            self._record(key, Op("write", start, inf, None))
        else:
            self._record(key, Op("write", start, self._now(), None))

    async def _get(self, engine: Engine, key: str) -> None:
        start = self._now()
        try:
            info = await engine.head_object(self.bucket, key)
        except NotFound:
            self._record(key, Op("read", start, self._now(), None))
            return
        except Unavailable:
            return
        self._record(key, Op("read", start, self._now(), info.etag))
        try:
            data = b"".join([bytes(b) async for b in engine.read(info, 0, info.size)])
        except ObjstoreError:
            return  # it may have been replaced meanwhile, or too few nodes answer
        if _etag(data) != info.etag:
            self.wrong.append(f"{key} at {self._now():.3f}: bytes do not match ETag {info.etag}")

    async def _list(self, engine: Engine) -> None:
        start = self._now()
        try:
            page = await engine.list_objects(self.bucket)
        except ObjstoreError:
            return
        listed = {entry.key: entry.etag for entry in page.entries}
        for i in range(self.keys):
            self._record(f"key{i}", Op("read", start, self._now(), listed.get(f"key{i}")))

    def judge(self) -> list[str]:
        """What is wrong with all that was seen; [] if nothing is."""
        out = list(self.wrong)
        for key, ops in sorted(self.history.items()):
            if not check(ops):
                out.append(f"{key} is not linearizable:\n" + "\n".join(f"  {op}" for op in sorted(ops, key=_by_start)))
        return out

    async def final_reads(self) -> list[str]:
        """After everything healed every key can be read through every gateway, with the same answer."""
        out: list[str] = []
        for i in range(self.keys):
            key = f"key{i}"
            for engine in self.cluster.engines:
                start = self._now()
                try:
                    info = await engine.head_object(self.bucket, key)
                except NotFound:
                    self._record(key, Op("read", start, self._now(), None))
                    continue
                self._record(key, Op("read", start, self._now(), info.etag))
                data = b"".join([bytes(b) async for b in engine.read(info, 0, info.size)])
                if _etag(data) != info.etag:
                    out.append(f"{key} came back with wrong bytes at the end")
        return out


def _by_start(op: Op) -> float:
    return op.start


def _etag(data: bytes) -> str:
    import hashlib

    return hashlib.md5(data, usedforsecurity=False).hexdigest()


async def break_things(cluster: SimCluster, seconds: float) -> None:
    """Kill, cut the power of, pause and bring back nodes; never more than m are away at once."""
    random = cluster.random
    end = cluster.loop.time() + seconds
    away: list[object] = []
    while cluster.loop.time() < end:
        await asyncio.sleep(random.uniform(0.1, 1.5))
        up = [m for m in cluster.machines if m.up and m.name not in cluster.network.paused]
        if len(up) > cluster.nodes - cluster.code.m and random.random() < 0.6:
            machine = random.choice(up)
            if random.random() < 0.3:
                cluster.pause(machine)
            else:
                cluster.kill(machine, power=random.random() < 0.5)
            machine.clock.skew_ms = random.choice((0, 0, -3_600_000, 3_600_000))
            away.append(machine)
        else:
            await bring_one_back(cluster)
    while len([m for m in cluster.machines if m.up and m.name not in cluster.network.paused]) < cluster.nodes:
        await bring_one_back(cluster)


async def bring_one_back(cluster: SimCluster) -> None:
    for machine in cluster.machines:
        if machine.name in cluster.network.paused:
            cluster.resume(machine)
            return
        if not machine.up:
            await cluster.start_node(machine)
            return

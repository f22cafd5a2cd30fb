"""Clients of a bucket that becomes versioned while gateways still remember that it was not. Part of a Workload.

What an acknowledged write stored in a versioned bucket is there, with its bytes, until somebody deletes that version;
what was there when versioning began is not destroyed by any write that begins later. (One that began before, and whose
outcome nobody knows, may still come to take its place.)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec

from objstore.engine.engine import Engine
from objstore.engine.types import Deleted, ObjectInfo, VersionEntry
from objstore.model.errors import GivenUp, NoSuchKey, NotFound, ObjstoreError
from objstore.model.records import BucketState
from tests.sim.workload import UNKNOWN, Workload, body, make_bucket, read_all

KEYS = ("v", "v/w")
SIZES = (0, 900, 3500, 3500, 20_000, 90_000)
CLIENTS = 3
NULL = "null"


@dataclass
class Versions:
    work: Workload
    bucket: str = "versions"
    before: dict[str, set[str]] = field(default_factory=dict)  # key -> ETags, one of which was there without a version
    open: dict[str, set[str]] = field(default_factory=dict)  # key -> ETags of puts of then whose outcome is not known
    stored: dict[tuple[str, str], str] = field(default_factory=dict)  # (key, version id) -> ETag, acknowledged
    doubtful: set[tuple[str, str]] = field(default_factory=set)  # perhaps deleted

    async def run(self) -> None:
        work = self.work
        await make_bucket(work.cluster, self.bucket)
        for key in KEYS:
            for _ in range(2):
                await self._put(key)
        self.stored.clear()
        await self._enable()
        for key in KEYS:
            info = await self._known(key)
            if info is not None and info.version_id == NULL:
                self.before[key] = {info.etag, *self.open.get(key, ())}
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        random = self.work.cluster.random
        for _ in range(self.work.operations // 2):
            await asyncio.sleep(random.uniform(0, self.work.pause_s))
            key = random.choice(KEYS)
            match random.choice(("put", "put", "put", "put", "hide", "remove", "read", "read")):
                case "put":
                    await self._put(key)
                case "hide":
                    await self._delete(key, None)
                case "remove" if self.stored:
                    await self._delete(*random.choice(list(self.stored)))
                case "read" if self.stored:
                    await self._read(*random.choice(list(self.stored)))

    async def _put(self, key: str) -> None:
        work, random = self.work, self.work.cluster.random
        data = random.randbytes(random.choice(SIZES))
        etag = work.history.body(data)

        async def operation(engine: Engine) -> ObjectInfo:
            return await engine.put_object(self.bucket, key, body(data), len(data), {})

        try:
            info = await work.history.run("put", await work.gateway(), operation)
        except (*UNKNOWN, GivenUp):
            work.history.failed += 1
            self.open.setdefault(key, set()).add(etag)
        except ObjstoreError as error:
            work.history.complain(f"put of a version: unexpected {error!r}")
        else:
            self.stored[key, info.version_id] = etag
            if self.before and info.version_id == NULL:
                work.history.complain(f"a write to {key} that began after versioning has no version")

    async def _enable(self) -> None:
        def edit(bucket: BucketState) -> BucketState:
            return msgspec.structs.replace(bucket, versioning="Enabled")

        while True:
            try:
                gateway = await self.work.gateway()
                await self.work.cluster.at(gateway, lambda engine: engine.configure_bucket(self.bucket, edit))
            except UNKNOWN:
                await asyncio.sleep(0.5)
            else:
                return

    async def _known(self, key: str) -> ObjectInfo | None:
        """The newest version; None if there is none."""
        while True:
            try:
                gateway = await self.work.gateway()
                return await self.work.cluster.at(gateway, lambda engine: engine.head_object(self.bucket, key))
            except NoSuchKey:
                return None
            except UNKNOWN:
                await asyncio.sleep(0.5)

    async def _delete(self, key: str, version: str | None) -> None:
        work = self.work
        if version is not None:
            self.doubtful.add((key, version))

        async def operation(engine: Engine) -> Deleted:
            return await engine.delete_object(self.bucket, key, version)

        try:
            did = await work.history.run("delete", await work.gateway(), operation)
        except UNKNOWN:
            work.history.failed += 1
        except ObjstoreError as error:
            work.history.complain(f"delete of a version: unexpected {error!r}")
        else:
            if version is None and (not did.marker or did.version_id == NULL):
                work.history.complain(f"a delete of {key} after versioning began left no marker: {did}")

    async def _read(self, key: str, version: str) -> None:
        """Its own bytes, or nothing if it may have been deleted."""
        work, history = self.work, self.work.history

        async def operation(engine: Engine) -> bytes:
            return await read_all(engine, await engine.head_object(self.bucket, key, version))

        try:
            data = await history.run("get", await work.gateway(), operation)
        except NotFound as error:
            if (key, version) not in self.doubtful:
                history.complain(f"version {version} of {key} was acknowledged and is gone: {error!r}")
        except UNKNOWN:
            history.failed += 1
        except ObjstoreError as error:
            history.complain(f"read of a version: unexpected {error!r}")
        else:
            if data != history.contents[self.stored[key, version]]:
                history.complain(f"version {version} of {key} came back with wrong bytes")

    async def account(self) -> None:
        """In the end, when everything works: through every gateway."""
        history = self.work.history
        for key, version in list(self.stored):
            await self._read(key, version)
        for gateway in list(self.work.cluster.ready):
            page = await self.work.cluster.at(gateway, lambda engine: engine.list_versions(self.bucket))
            listed = {(one.key, one.version_id): one for one in page.entries}
            if len(listed) != len(page.entries) or page.truncated:
                history.complain(f"versions are listed twice, or not all: {page}")
            for name, etag in self.stored.items():
                if name not in self.doubtful and (name not in listed or listed[name].etag != etag):
                    history.complain(f"{name} is not listed through {gateway}")
            for key, etags in self.before.items():
                if (key, NULL) not in listed or listed[key, NULL].etag not in etags:
                    history.complain(f"what {key} was before versioning was destroyed")
            for key in KEYS:
                self._one_newest(key, [one for one in page.entries if one.key == key])

    def _one_newest(self, key: str, versions: list[VersionEntry]) -> None:
        if [one.latest for one in versions] != [place == 0 for place in range(len(versions))]:
            self.work.history.complain(f"not the first version of {key} is said to be the newest: {versions}")

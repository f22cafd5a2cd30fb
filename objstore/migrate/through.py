"""Reads through to the origin of a bucket that is migrated: what the operations of an engine do beside.

    head, read, lists    a key of which nothing is known here is that of the origin, and copied behind
    conditional writes   the object is copied first, so that the change which decides sees it (INV-21)
    delete               leaves its mark (engine/objects.py); what is deleted here is never asked for again
    delete_bucket        refused, for not all of the bucket is here

A bucket's configuration may be 2 s old here, as for every read. `install` puts these in the place of the operations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from objstore.engine.adopting import AlreadyHere, MigrationOver
from objstore.engine.engine import Operations
from objstore.engine.keystate import NULL
from objstore.engine.lists import Lists
from objstore.engine.registers import Registers
from objstore.engine.sealing import Sealing
from objstore.engine.types import ALWAYS, BucketInfo, ObjectInfo, ObjectPage, VersionPage
from objstore.migrate.answers import Found
from objstore.migrate.client import OriginClient
from objstore.migrate.copying import Copier
from objstore.migrate.origins import Origins
from objstore.migrate.union import UnionRegisters
from objstore.model.errors import (
    BucketNotEmpty,
    DeletedHere,
    IsDeleteMarker,
    NoSuchKey,
    NoSuchVersion,
    ObjstoreError,
)
from objstore.model.origin import Origin
from objstore.ports import Buffer

log = logging.getLogger(__name__)

BEHIND_AT_ONCE = 4  # copies of what was read
BEHIND_WAITING_MAX = 256  # more is left to the walk through the origin

Work = TypeVar("Work", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class OriginInfo(ObjectInfo):
    """An object that is not here yet."""

    found: Found | None = field(default=None, repr=False)
    client: OriginClient | None = field(default=None, repr=False)


class ReadThrough:
    def __init__(self, engine: Operations, origins: Origins, copier: Copier) -> None:
        self._engine = engine
        self._origins = origins
        self._copier = copier
        self._head = engine.head_object
        self._read = engine.read
        self._behind: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(BEHIND_AT_ONCE)

    async def close(self) -> None:
        tasks = list(self._behind.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def install(self) -> None:
        """In the place of the operations of the engine."""
        engine = self._engine
        engine.list_objects = self._listing(engine.list_objects, self._list_objects)
        engine.list_versions = self._listing(engine.list_versions, self._list_versions)
        engine.delete_bucket = self._keeping(engine.delete_bucket)
        engine.amend_object = self._after_copy(engine.amend_object, always=True)
        engine.append_object = self._after_copy(engine.append_object, always=True)
        engine.rename_object = self._after_copies(engine.rename_object)
        engine.put_object = self._after_copy(engine.put_object)
        engine.complete_upload = self._after_copy(engine.complete_upload)
        engine.delete_object = self._after_copy(engine.delete_object)
        engine.head_object = self.head
        engine.read = self.read

    # --- reads

    async def head(self, bucket_name: str, key: str, version_id: str | None = None) -> ObjectInfo:
        try:
            return await self._head(bucket_name, key, version_id)
        except (NoSuchKey, NoSuchVersion) as error:
            if version_id not in (None, NULL):
                raise
            missing = error if isinstance(error, NoSuchKey) else await self._missing(bucket_name, key)
            asked = await self._asked(bucket_name, missing) if missing is not None else None
            info = await self._head_there(*asked, key) if asked is not None else None
            if info is None:
                raise
            return info

    async def _missing(self, bucket_name: str, key: str) -> NoSuchKey | None:
        """As what the key is missing; None: there is something."""
        try:
            await self._head(bucket_name, key)
        except NoSuchKey as error:
            return error
        return None

    async def _head_there(self, bucket: BucketInfo, client: OriginClient, key: str) -> ObjectInfo | None:
        found = await client.head(key)
        if found is None:
            return None
        parts = await client.part_sizes(key, found)
        tags = await client.tags(key) if found.tagged else {}
        self._copy_behind(bucket, client, key)
        return OriginInfo(
            bucket.name,
            key,
            NULL,
            found.size,
            found.etag,
            found.modified_ms,
            found.headers,
            parts,
            tags=tags,
            versioned=bool(bucket.versioning),
            found=found,
            client=client,
        )

    def read(self, info: ObjectInfo, offset: int, length: int, sealing: Sealing | None = None) -> AsyncIterator[Buffer]:
        if isinstance(info, OriginInfo):
            assert info.client is not None and info.found is not None
            return info.client.read(info.key, info.found, offset, length)
        return self._read(info, offset, length, sealing)

    async def _asked(self, bucket_name: str, error: NoSuchKey) -> tuple[BucketInfo, OriginClient] | None:
        """The origin that is to be asked for a key that is not here."""
        if isinstance(error, IsDeleteMarker):
            return None
        bucket = await self._engine.get_bucket(bucket_name, fresh=False)
        known = self._origins.of(bucket)
        if known is None or (isinstance(error, DeletedHere) and error.migration == known[0].id):
            return None
        return bucket, known[1]

    def _copy_behind(self, bucket: BucketInfo, client: OriginClient, key: str) -> None:
        name = (bucket.name, key)
        if name in self._behind or len(self._behind) >= BEHIND_WAITING_MAX:
            return
        task = self._behind[name] = asyncio.create_task(self._copied(bucket, client, key))
        task.add_done_callback(lambda _: self._behind.pop(name, None))

    async def _copied(self, bucket: BucketInfo, client: OriginClient, key: str) -> None:
        async with self._gate:
            try:
                await self._ensure(bucket, client, key)
            except ObjstoreError as error:
                log.info("object %r of bucket %s is not copied now: %s", key, bucket.name, error)
            except Exception:
                log.exception("object %r of bucket %s cannot be copied", key, bucket.name)

    # --- writes

    async def _ensure(self, bucket: BucketInfo, client: OriginClient, key: str) -> None:
        """Whatever the origin has under the key is here, or something else is."""
        origin = self._origin(bucket)
        try:
            await self._copier.copy(client, bucket, origin.id, key)
        except (AlreadyHere, MigrationOver):
            return

    async def _settle(self, bucket_name: str, key: str) -> None:
        """Copy the object unless something is known of its key here."""
        if self._origins.of(await self._engine.get_bucket(bucket_name, fresh=False)) is None:
            return
        missing = await self._missing(bucket_name, key)
        asked = await self._asked(bucket_name, missing) if missing is not None else None
        if asked is not None:
            await self._ensure(*asked, key)

    def _origin(self, bucket: BucketInfo) -> Origin:
        known = self._origins.of(bucket)
        assert known is not None
        return known[0]

    def _after_copy(self, work: Work, *, always: bool = False) -> Work:
        """`always`: also without a condition; of the newest version only."""

        async def settled(bucket_name: str, key: str, *rest: Any, **options: Any) -> Any:
            if always or options.get("condition", ALWAYS) != ALWAYS:
                await self._settle(bucket_name, key)
            return await work(bucket_name, key, *rest, **options)

        return cast(Work, settled)

    def _after_copies(self, work: Work) -> Work:
        """Of both keys."""

        async def settled(bucket_name: str, source: str, target: str, **options: Any) -> Any:
            await self._settle(bucket_name, source)
            if options.get("condition", ALWAYS) != ALWAYS:
                await self._settle(bucket_name, target)
            return await work(bucket_name, source, target, **options)

        return cast(Work, settled)

    def _keeping(self, work: Work) -> Work:
        async def kept(bucket_name: str) -> Any:
            if self._origins.of(await self._engine.get_bucket(bucket_name)) is not None:
                text = f"bucket {bucket_name!r} is being migrated; first: objstore migrate stop {bucket_name}"
                raise BucketNotEmpty(text)
            return await work(bucket_name)

        return cast(Work, kept)

    # --- lists

    def _listing(self, work: Work, union: Callable[..., Awaitable[Any]]) -> Work:
        async def listed(bucket_name: str, **options: Any) -> Any:
            bucket = await self._engine.get_bucket(bucket_name, fresh=False)
            known = self._origins.of(bucket)
            if known is None:
                return await work(bucket_name, **options)
            origin, client = known
            registers = UnionRegisters(self._engine.registers, client, origin.prefix, origin.id)
            return await union(self._engine.lists_over(cast(Registers, registers)), bucket_name, **options)

        return cast(Work, listed)

    async def _list_objects(self, lists: Lists, bucket_name: str, **options: Any) -> ObjectPage:
        return await lists.objects(bucket_name, **options)

    async def _list_versions(self, lists: Lists, bucket_name: str, **options: Any) -> VersionPage:
        return await lists.versions(bucket_name, **options)

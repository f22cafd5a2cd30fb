"""Rotation of the cluster's keys: under which of them objects are, and putting data keys under the current one.

Only the wrapped data key of an object changes, in its register: its bytes, version, ETag and date stay. What is written
meanwhile is under the current key anyway, once every gateway has it first in its list.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec

from objstore.engine.engine import Operations
from objstore.engine.sealing import Sealing, open_sealing, rewrapped
from objstore.engine.types import ObjectInfo, VersionEntry
from objstore.model.errors import NotFound
from objstore.model.records import ObjectVersion
from objstore.model.sealed import BY_CLIENT, KeyRing, Sealed
from objstore.ports import Random

AT_ONCE = 32  # registers read or changed together


@dataclass(slots=True)
class Census:
    """Versions of objects, and open uploads, by what they are encrypted under."""

    plain: int = 0
    by_clients: int = 0
    by_key: Counter[str] = field(default_factory=Counter)  # id of a key of the cluster -> versions
    uploads: Counter[str] = field(default_factory=Counter)  # likewise -> open uploads
    changed: int = 0  # put under the current key by this run
    unknown: int = 0  # under a key that is not at hand: nobody can read them here


async def look(
    engine: Operations, ring: KeyRing | None, random: Random, *, rewrap: bool, tell: Callable[[Census], None]
) -> Census:
    """Every version in every bucket; `tell` hears how far it is. With `rewrap`: what is not under the current key is
    put there."""
    census = Census()
    for bucket in await engine.list_buckets():
        async for entries in _pages(engine, bucket.name):
            for at in range(0, len(entries), AT_ONCE):
                some = (
                    _one(engine, bucket.name, entry, ring, random, census, rewrap) for entry in entries[at:][:AT_ONCE]
                )
                await asyncio.gather(*some)
                tell(census)
        await _count_uploads(engine, bucket.name, census)
    return census


async def _pages(engine: Operations, bucket: str) -> AsyncIterator[list[VersionEntry]]:
    after = ("", "")
    while True:
        try:
            page = await engine.list_versions(bucket, after_key=after[0], after_version=after[1])
        except NotFound:
            return
        yield [entry for entry in page.entries if not entry.marker]
        if not page.truncated:
            return
        after = (page.next_key, page.next_version)


async def _one(
    engine: Operations,
    bucket: str,
    entry: VersionEntry,
    ring: KeyRing | None,
    random: Random,
    census: Census,
    rewrap: bool,
) -> None:
    try:
        info = await engine.head_object(bucket, entry.key, entry.version_id)
        sealed = info.sealed
        if sealed is not None and sealed.kind != BY_CLIENT:
            sealing = _opened(sealed, ring, bucket)
            if ring is None or sealing is None:
                census.unknown += 1
            elif rewrap and sealed.key_id != ring.current:
                sealed = await _rewrap(engine, info, sealing, ring, random)
                census.changed += 1
    except NotFound:
        return  # deleted meanwhile
    if sealed is None:
        census.plain += 1
    elif sealed.kind == BY_CLIENT:
        census.by_clients += 1
    else:
        census.by_key[sealed.key_id] += 1


def _opened(sealed: Sealed, ring: KeyRing | None, bucket: str) -> Sealing | None:
    """None: its key is not at hand, or what is at hand has its id and other bytes."""
    under = ring.keys.get(sealed.key_id) if ring is not None else None
    return open_sealing(sealed, under, bucket) if under is not None else None


async def _rewrap(engine: Operations, info: ObjectInfo, sealing: Sealing, ring: KeyRing, random: Random) -> Sealed:
    new = rewrapped(sealing, ring.current, ring.keys[ring.current], info.bucket, random)

    def edit(version: ObjectVersion) -> ObjectVersion:
        return msgspec.structs.replace(version, sealed=new) if version.sealed == sealing.record else version

    await engine.amend_object(info.bucket, info.key, info.version_id, edit)
    return new


async def _count_uploads(engine: Operations, bucket: str, census: Census) -> None:
    after = ("", "")
    while True:
        try:
            page = await engine.list_uploads(bucket, after_key=after[0], after_upload=after[1])
            for upload in page.uploads:
                sealed = (await engine.list_parts(bucket, upload.key, upload.upload_id, limit=1)).sealed
                if sealed is not None and sealed.kind != BY_CLIENT:
                    census.uploads[sealed.key_id] += 1
        except NotFound:
            return
        if not page.truncated:
            return
        after = (page.next_key, page.next_upload)

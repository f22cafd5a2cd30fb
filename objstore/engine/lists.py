"""Lists of a bucket: objects, and versions. Pages over an ordered scan; common prefixes are jumped over.

What a list of objects shows stands in the listing of each key. So does all of a key with one version; those that have
more are read, many at once.
"""

from __future__ import annotations

import asyncio

from objstore.engine.buckets import Buckets
from objstore.engine.keystate import NULL, shown_checksum, shown_id, state_of
from objstore.engine.listing import BucketScan
from objstore.engine.registers import Registers
from objstore.engine.types import ObjectEntry, ObjectPage, VersionEntry, VersionPage
from objstore.model import limits
from objstore.model.ids import BucketId
from objstore.model.records import ListEntry, RegisterKey, Space, decode, decode_entries
from objstore.register.change import body_of

READS_AT_ONCE = 64  # keys with several versions


class Lists:
    def __init__(self, registers: Registers, buckets: Buckets) -> None:
        self._registers = registers
        self._buckets = buckets

    async def objects(
        self,
        bucket_name: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = limits.LIST_PAGE_MAX,
    ) -> ObjectPage:
        bucket = await self._buckets.get(bucket_name, fresh=True)
        lead, cut, start = prefix.encode(), delimiter.encode(), after.encode()
        first = max(lead, _after_token(start, lead, cut)) if start else lead
        page = ObjectPage([], [], False, "")
        last = ""
        scan = self._registers.scan(bucket.id, Space.OBJECT, start=first, end=after_prefix(lead), expect=limit + 1)
        if not cut:
            return await _plain(scan, limit)
        while (pair := await scan.next()) is not None:
            name, listing = pair
            entry = decode(listing, ListEntry)
            if entry.hidden:
                continue
            if len(page.entries) + len(page.prefixes) >= limit:
                return ObjectPage(page.entries, page.prefixes, limit > 0, last)
            at = name.find(cut, len(lead))
            if at >= 0:
                common = name[: at + len(cut)]
                last = common.decode()
                page.prefixes.append(last)
                beyond = after_prefix(common)
                if not beyond:
                    break
                scan.skip_to(beyond)
            else:
                last = name.decode()
                page.entries.append(ObjectEntry(last, entry.size, entry.etag, entry.modified_ms, entry.extra))
        return page

    async def versions(
        self,
        bucket_name: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after_key: str = "",
        after_version: str = "",
        limit: int = limits.LIST_PAGE_MAX,
    ) -> VersionPage:
        """All versions and delete markers: by key, the newest first.

        after_key alone: keys above it; with after_version: also the older versions of that key."""
        bucket = await self._buckets.get(bucket_name, fresh=True)
        lead, cut, start = prefix.encode(), delimiter.encode(), after_key.encode()
        first = lead
        if start:
            first = max(lead, start if after_version else _after_token(start, lead, cut))
        scan = self._registers.scan(bucket.id, Space.OBJECT, start=first, end=after_prefix(lead), expect=limit + 1)
        page = VersionPage([], [], False)
        last = ("", "")
        while batch := await self._batch(scan, bucket.id, lead, cut):
            for name, versions in batch:
                if versions is None:
                    if len(page.entries) + len(page.prefixes) >= limit:
                        return VersionPage(page.entries, page.prefixes, limit > 0, *last)
                    last = (name.decode(), "")
                    page.prefixes.append(last[0])
                    continue
                for entry in _older(versions, after_version) if after_version and name == start else versions:
                    if len(page.entries) + len(page.prefixes) >= limit:
                        return VersionPage(page.entries, page.prefixes, limit > 0, *last)
                    last = (entry.key, entry.version_id)
                    page.entries.append(entry)
        return page

    async def _batch(
        self, scan: BucketScan, bucket: BucketId, lead: bytes, cut: bytes
    ) -> list[tuple[bytes, list[VersionEntry] | None]]:
        """The next keys with their versions, and common prefixes (None); [] at the end."""
        found: list[tuple[bytes, bytes | None]] = []
        while len(found) < READS_AT_ONCE and (pair := await scan.next()) is not None:
            name, listing = pair
            at = name.find(cut, len(lead)) if cut else -1
            if at < 0:
                found.append((name, listing))
                continue
            common = name[: at + len(cut)]
            found.append((common, None))
            beyond = after_prefix(common)
            if not beyond:
                break
            scan.skip_to(beyond)
        versions = await asyncio.gather(
            *(self._versions_of(bucket, name, listing) for name, listing in found if listing)
        )
        known = iter(versions)
        return [(name, next(known) if listing else None) for name, listing in found]

    async def _versions_of(self, bucket: BucketId, name: bytes, listing: bytes) -> list[VersionEntry]:
        entry = decode(listing, ListEntry)
        key = name.decode()
        if entry.versions == 1:
            shown = entry.version.hex() or NULL
            one = (entry.size, entry.etag, entry.modified_ms, entry.extra)
            return [VersionEntry(key, shown, True, entry.hidden, *one)]
        state = state_of(body_of(await self._registers.read(RegisterKey(bucket, Space.OBJECT, name))))
        return [
            VersionEntry(
                key,
                shown_id(version),
                place == 0,
                version.marker,
                version.size,
                version.etag,
                version.modified_ms,
                shown_checksum(version),
            )
            for place, version in enumerate(state.versions)
        ]


async def _plain(scan: BucketScan, limit: int) -> ObjectPage:
    """A page without common prefixes, as many keys at a time as the scan has."""
    entries: list[ObjectEntry] = []
    while batch := await scan.batch():
        for i in range(0, len(batch), max(1, limit)):
            some = batch[i : i + max(1, limit)]
            shown = decode_entries([listing for _, listing in some])
            entries += [
                ObjectEntry(name.decode(), entry.size, entry.etag, entry.modified_ms, entry.extra)
                for (name, _), entry in zip(some, shown, strict=True)
                if not entry.hidden
            ]
            if len(entries) > limit:
                del entries[limit:]
                return ObjectPage(entries, [], limit > 0, entries[-1].key if entries else "")
    return ObjectPage(entries, [], False, "")


def _older(versions: list[VersionEntry], marker: str) -> list[VersionEntry]:
    """What follows the version that a page ended with. When that one is gone by now: those with lower ids, for ids are
    made in the order of time."""
    for place, version in enumerate(versions):
        if version.version_id == marker:
            return versions[place + 1 :]
    return [version for version in versions if version.version_id < marker] if marker != NULL else []


def after_prefix(prefix: bytes) -> bytes:
    """The smallest name above every name with this prefix; b"" if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else b""


def _after_token(start: bytes, lead: bytes, cut: bytes) -> bytes:
    """Where a page begins that follows `start`, which may be a key or a common prefix already shown."""
    if cut and start.startswith(lead):
        at = start.find(cut, len(lead))
        if at >= 0 and at + len(cut) == len(start):
            return after_prefix(start) or start + b"\x00"
    return start + b"\x00"

"""Walks through the listing of each origin and copies what is not here; one process does, the leading repairer.

How far it is stands in the coordinator, so that the next leader goes on; without it everything is looked at again,
which is safe. A walk in which something failed is followed by another. Progress is put down after each page: what a
page that was broken off had copied already is then found here, and counted so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Protocol

import msgspec

from objstore.cluster.port import MIGRATIONS, Coordinator
from objstore.engine.adopting import AlreadyHere, MigrationOver
from objstore.engine.engine import Operations
from objstore.engine.types import BucketInfo
from objstore.migrate.answers import Entry
from objstore.migrate.client import OriginClient
from objstore.migrate.copying import Copier
from objstore.migrate.origins import Origins
from objstore.migrate.union import is_stale
from objstore.model.errors import NoSuchBucket, ObjstoreError, OriginUnavailable
from objstore.model.origin import FAILURES_SHOWN, Failure, MigrationProgress, Origin, decode_progress
from objstore.model.records import Space
from objstore.ports import Clock

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between two rounds
SEARCH_S = 60.0  # between two looks at all buckets, for migrations that the coordinator does not know of
AGAIN_S = 30.0  # until the origin is tried again, or another walk begins after failures
PAGE = 500
COPIES_AT_ONCE = 4
DEFAULT_BYTES_PER_S = 100 << 20
COST = 64 << 10  # of one copy beside its bytes, so that small objects have a bounded rate too


class Board(Protocol):
    """Where progress is kept."""

    async def buckets(self) -> list[str]: ...

    async def read(self, bucket: str) -> MigrationProgress | None: ...

    async def write(self, bucket: str, progress: MigrationProgress) -> None: ...


class CoordinatorBoard:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def buckets(self) -> list[str]:
        entries, _ = await self._coordinator.range(MIGRATIONS)
        return [entry.key.removeprefix(MIGRATIONS) for entry in entries]

    async def read(self, bucket: str) -> MigrationProgress | None:
        entry = await self._coordinator.get(MIGRATIONS + bucket)
        try:
            return decode_progress(entry.value) if entry is not None else None
        except msgspec.DecodeError as error:
            log.error("the progress of the migration of bucket %s cannot be read: %s", bucket, error)
            return None

    async def write(self, bucket: str, progress: MigrationProgress) -> None:
        await self._coordinator.put(MIGRATIONS + bucket, msgspec.json.encode(progress))

    async def forget(self, bucket: str) -> None:
        await self._coordinator.delete(MIGRATIONS + bucket)


class Walker:
    def __init__(
        self, engine: Operations, origins: Origins, copier: Copier, board: Board, clock: Clock, page: int = PAGE
    ) -> None:
        self._engine = engine
        self._origins = origins
        self._copier = copier
        self._board = board
        self._clock = clock
        self._page = page
        self._again_at: dict[str, float] = {}
        self._pace_at = 0.0
        self._search_at = float("-inf")

    async def run(self, may_act: Callable[[], bool], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """For ever."""
        while True:
            try:
                await self.look(may_act)
            except ObjstoreError as error:
                log.info("migrations wait: %s", error)
            except Exception:
                log.exception("migrations failed and start over")
            await sleep(LOOK_S)

    async def look(self, may_act: Callable[[], bool]) -> None:
        """One round over the buckets that are migrated: each as far as it comes."""
        if not may_act():
            return
        names = await self._board.buckets()
        if self._clock.monotonic() >= self._search_at:
            known = await self._engine.list_buckets()
            names = [bucket.name for bucket in known if self._origins.of(bucket) is not None]
            self._search_at = self._clock.monotonic() + SEARCH_S
        for name in names:
            try:
                await self._migrate(name, may_act)
            except NoSuchBucket:
                continue

    async def _migrate(self, name: str, may_act: Callable[[], bool]) -> None:
        while may_act():
            bucket = await self._engine.get_bucket(name)
            known = self._origins.of(bucket)
            if known is None:
                return
            origin, client = known
            now = await self._board.read(name)
            if now is None or now.migration != origin.id.hex():
                now = MigrationProgress(origin.id.hex())
            after = await self._step(bucket, origin, client, now, may_act)
            if after is None:
                return
            if not may_act():
                return
            await self._board.write(name, msgspec.structs.replace(after, at_ms=self._clock.wall_ms()))
            if after.state != "walking":
                return

    async def _step(
        self,
        bucket: BucketInfo,
        origin: Origin,
        client: OriginClient,
        now: MigrationProgress,
        may_act: Callable[[], bool],
    ) -> MigrationProgress | None:
        """One page; None: there is nothing to do."""
        if origin.paused:
            return msgspec.structs.replace(now, state="paused") if now.state in ("walking", "waiting") else None
        if now.state == "done" or self._clock.monotonic() < self._again_at.get(bucket.name, 0.0):
            return None
        if not now.cursor and now.failed and now.state == "waiting":
            now = msgspec.structs.replace(now, walk=now.walk + 1, seen=0, seen_bytes=0, here=0, failed=0, failures=())
        now = msgspec.structs.replace(now, state="walking", reason="")
        try:
            return await self._walk_page(bucket, origin, client, now, may_act)
        except OriginUnavailable as error:
            self._again_at[bucket.name] = self._clock.monotonic() + AGAIN_S
            return msgspec.structs.replace(now, state="waiting", reason=str(error))
        except MigrationOver:
            return None

    async def _walk_page(
        self,
        bucket: BucketInfo,
        origin: Origin,
        client: OriginClient,
        now: MigrationProgress,
        may_act: Callable[[], bool],
    ) -> MigrationProgress | None:
        page = await client.page(origin.prefix, now.cursor, self._page)
        absent = await self._absent(bucket, origin, page.entries)
        tally = _Tally(now)
        gate = asyncio.Semaphore(COPIES_AT_ONCE)

        async def copy(entry: Entry) -> None:
            async with gate:
                if may_act():
                    await self._pace(origin, entry.size)
                    await self._copy(bucket, origin, client, entry, tally)

        await _all(copy(entry) for entry in page.entries if entry.key in absent)
        if not may_act():
            return None
        for entry in page.entries:
            tally.saw(entry, here=entry.key not in absent)
        cursor = page.entries[-1].key if page.entries else now.cursor
        if page.truncated and page.entries:
            return tally.progress(cursor)
        if tally.failed:
            self._again_at[bucket.name] = self._clock.monotonic() + AGAIN_S
            return msgspec.structs.replace(
                tally.progress(""), state="waiting", reason="some objects could not be copied"
            )
        return msgspec.structs.replace(tally.progress(cursor), state="done")

    async def _absent(self, bucket: BucketInfo, origin: Origin, entries: list[Entry]) -> set[str]:
        """Keys of which nothing is known here."""
        if not entries:
            return set()
        absent = {entry.key for entry in entries}
        start, end = entries[0].key.encode(), entries[-1].key.encode() + b"\x00"
        scan = self._engine.registers.scan(bucket.id, Space.OBJECT, start=start, end=end, expect=len(entries))
        while (pair := await scan.next()) is not None:
            if not is_stale(pair[1], origin.id):
                absent.discard(pair[0].decode())
        return absent

    async def _copy(
        self, bucket: BucketInfo, origin: Origin, client: OriginClient, entry: Entry, tally: _Tally
    ) -> None:
        try:
            copied = await self._copier.copy(client, bucket, origin.id, entry.key)
        except AlreadyHere:
            tally.here += 1
        except MigrationOver:
            raise
        except OriginUnavailable as error:
            await client.check_bucket()  # when the service does not answer at all, that is what is wrong
            tally.fail(entry.key, str(error))
        except ObjstoreError as error:
            tally.fail(entry.key, str(error))
        else:
            if copied is not None:
                tally.copied += 1
                tally.copied_bytes += copied.size
                tally.verified += copied.verified

    async def _pace(self, origin: Origin, size: int) -> None:
        """Returns when so many bytes more are within the rate."""
        now = self._clock.monotonic()
        self._pace_at = max(self._pace_at, now)
        wait = self._pace_at - now
        self._pace_at += (size + COST) / (origin.bytes_per_s or DEFAULT_BYTES_PER_S)
        if wait > 0:
            await asyncio.sleep(wait)


class _Tally:
    """Counts of one page, added to what there is."""

    def __init__(self, now: MigrationProgress) -> None:
        self._now = now
        self.seen = now.seen
        self.seen_bytes = now.seen_bytes
        self.copied = now.copied
        self.copied_bytes = now.copied_bytes
        self.verified = now.verified
        self.here = now.here
        self.failed = now.failed
        self._failures = list(now.failures)

    def saw(self, entry: Entry, *, here: bool) -> None:
        self.seen += 1
        self.seen_bytes += entry.size
        self.here += here

    def fail(self, key: str, reason: str) -> None:
        self.failed += 1
        if len(self._failures) < FAILURES_SHOWN:
            self._failures.append(Failure(key, reason))

    def progress(self, cursor: str) -> MigrationProgress:
        return msgspec.structs.replace(
            self._now,
            cursor=cursor,
            seen=self.seen,
            seen_bytes=self.seen_bytes,
            copied=self.copied,
            copied_bytes=self.copied_bytes,
            verified=self.verified,
            here=self.here,
            failed=self.failed,
            failures=tuple(self._failures),
        )


async def _all(works: Iterable[Coroutine[None, None, None]]) -> None:
    """The first error, once all have ended."""
    ended = await asyncio.gather(*works, return_exceptions=True)
    errors = [one for one in ended if isinstance(one, BaseException)]
    if errors:
        raise errors[0]

"""What is in each bucket, as the coordinator keeps it (objstore/model/usage.py)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import msgspec

from objstore.cluster.port import INVENTORY, USAGE, USAGE_HEAD_KEY, Coordinator
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BucketId
from objstore.model.inventory import Written, decode_written
from objstore.model.usage import NO_USE, BucketUse, UsageHead, Use, decode_head, decode_page, page_of
from objstore.ports import Clock

log = logging.getLogger(__name__)

FRESH_S = 2.0  # so old may be what is known here
PATIENCE_S = 1.0  # of who asks, unless the coordinator has failed to answer just before


@dataclass(frozen=True, slots=True)
class Usage:
    """`buckets`: by id, in hex."""

    head: UsageHead
    buckets: dict[str, BucketUse] = field(default_factory=dict)


async def read_usage(coordinator: Coordinator) -> Usage | None:
    """Of all buckets. None: nothing was counted yet, or it is of another version."""
    head = await coordinator.get(USAGE_HEAD_KEY)
    if head is None:
        return None
    entries, _ = await coordinator.range(USAGE)
    try:
        pages = [decode_page(entry.value) for entry in entries]
        return Usage(decode_head(head.value), {one.bucket: one for page in pages for one in page.buckets})
    except msgspec.DecodeError as error:
        log.error("what is in each bucket cannot be read: %s", error)
        return None


async def read_reports(coordinator: Coordinator) -> dict[str, dict[str, Written]]:
    """When inventories were written: by id of the bucket, in hex, and id of the configuration."""
    entries, _ = await coordinator.range(INVENTORY)
    found = {}
    for entry in entries:
        try:
            found[entry.key.removeprefix(INVENTORY)] = decode_written(entry.value).reports
        except msgspec.DecodeError as error:
            log.error("%s cannot be read: %s", entry.key, error)
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """What a bucket held. `as_of_ms` 0: nobody has told yet."""

    use: Use = NO_USE
    as_of_ms: int = 0


NOT_MEASURED = Measured()


@dataclass(slots=True)
class _Page:
    as_of_ms: int = 0
    uses: dict[str, Use] = field(default_factory=dict)
    read_at: float = float("-inf")  # or tried to
    failed: bool = False
    reading: asyncio.Task[None] | None = None


class UsageReader:
    """What single buckets hold, for a process that asks often. Nobody waits long for the coordinator, nor again and
    again: while it is away the last answer counts, and grows older."""

    def __init__(self, coordinator: Coordinator, clock: Clock) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._pages: dict[int, _Page] = {}

    async def measured(self, bucket: BucketId) -> Measured:
        number = page_of(bucket)
        page = self._pages.setdefault(number, _Page())
        if page.reading is None and self._clock.monotonic() - page.read_at >= FRESH_S:
            page.reading = asyncio.create_task(self._read(number, page), name="usage of buckets")
        if page.reading is not None and not page.failed:
            await asyncio.wait((page.reading,), timeout=PATIENCE_S)
            page.failed = page.reading is not None
        return Measured(page.uses.get(bucket.hex(), NO_USE), page.as_of_ms)

    async def _read(self, number: int, page: _Page) -> None:
        """The head first: what the page holds is of that time or later."""
        try:
            head = await self._coordinator.get(USAGE_HEAD_KEY)
            entry = await self._coordinator.get(f"{USAGE}{number:02}")
            page.failed = False
            if head is not None and entry is not None:
                found = decode_page(entry.value)
                page.uses = {one.bucket: one.use for one in found.buckets}
                page.as_of_ms = decode_head(head.value).as_of_ms
        except (ObjstoreError, msgspec.DecodeError) as error:
            page.failed = True
            log.info("what is in the buckets cannot be read now: %s", error)
        finally:
            page.read_at = self._clock.monotonic()
            page.reading = None

    async def close(self) -> None:
        reading = [page.reading for page in self._pages.values() if page.reading is not None]
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

"""How much is in each bucket: counted as registers are read, and put where everybody sees it.

The survey reads every register that changes; what each adds to its bucket is added and taken away again with it, so
counting costs nothing more. It is published only once every partition was read from a majority of its owners.
"""

from __future__ import annotations

import logging

from objstore.cluster.port import USAGE, USAGE_HEAD_KEY, Coordinator
from objstore.model.quota import BucketQuota
from objstore.model.records import KeyState
from objstore.model.usage import NO_USE, BucketUse, UsagePage, Use, encode_usage, head_of, in_pages
from objstore.repair.record import Record

log = logging.getLogger(__name__)


def use_of(state: KeyState) -> Use:
    """What the versions of one key are."""
    if not state.versions:
        return NO_USE
    markers = sum(version.marker for version in state.versions)
    size = sum(version.size for version in state.versions)
    return Use(int(not state.versions[0].marker), len(state.versions) - markers, markers, size)


class UsageTally:
    """By bucket, of the registers as they are known now."""

    def __init__(self) -> None:
        self._uses: dict[bytes, Use] = {}
        self._names: dict[bytes, tuple[str, BucketQuota | None]] = {}
        self.reporting: dict[bytes, str] = {}  # names of buckets that want inventories

    def turn(self, key: bytes, old: Record | None, new: Record | None) -> None:
        """A register has changed."""
        before, after = _counted(old), _counted(new)
        if before != after:
            bucket = bytes(key[:16])
            now = self._uses.get(bucket, NO_USE).minus(before).plus(after)
            if now == NO_USE:
                self._uses.pop(bucket, None)
            else:
                self._uses[bucket] = now
        if old is not None and old.bucket:
            self._names.pop(old.bucket, None)
            self.reporting.pop(old.bucket, None)
        if new is not None and new.bucket:
            name = key[17:].decode(errors="replace")
            self._names[new.bucket] = (name, new.quota)
            if new.reports:
                self.reporting[new.bucket] = name

    def found(self) -> dict[bytes, BucketUse]:
        """Of buckets that exist. What deleted ones have left behind is nobody's."""
        return {
            bucket: BucketUse(bucket.hex(), name, self._uses.get(bucket, NO_USE), quota)
            for bucket, (name, quota) in self._names.items()
        }


def _counted(record: Record | None) -> Use:
    return NO_USE if record is None or record.ended else record.use


class UsageBoard:
    """Puts what was counted into the coordinator: pages that changed, then the head with the time."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._put: dict[int, UsagePage] = {}

    async def publish(self, found: dict[bytes, BucketUse], as_of_ms: int) -> None:
        """Raises ObjstoreError when the coordinator does not answer; the head, with the time, is put last."""
        for number, page in enumerate(in_pages(found)):
            if self._put.get(number) != page:
                self._put.pop(number, None)  # it is not known what is there, until the answer
                await self._coordinator.put(f"{USAGE}{number:02}", encode_usage(page))
                self._put[number] = page
        await self._coordinator.put(USAGE_HEAD_KEY, encode_usage(head_of(found, as_of_ms)))

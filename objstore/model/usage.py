"""What is in each bucket, as the leading repairer has counted it.

Pages under `usage/` in the coordinator, JSON, so that thousands of buckets fit and only what changed is put again. All
numbers are as of `UsageHead.as_of_ms` or a little later: each metadata partition was read then or after it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping

import msgspec

from objstore.model.formats import json_decoder
from objstore.model.quota import BucketQuota, Need, is_beyond

PAGES = 64
BUCKETS_MAX = 20_000  # listed; of more, those with a quota first, then the largest
OVER_MAX = 20  # named in the head
NEARLY = 0.9  # of a quota, from which on it is said


class Use(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes are those that clients wrote, before redundancy and encryption."""

    objects: int = 0  # keys that a client sees
    versions: int = 0  # of all keys, current ones too; delete markers not
    markers: int = 0
    bytes: int = 0  # of all versions
    uploads: int = 0  # multipart uploads in progress
    upload_bytes: int = 0  # of their parts

    def plus(self, other: Use) -> Use:
        return Use(
            self.objects + other.objects,
            self.versions + other.versions,
            self.markers + other.markers,
            self.bytes + other.bytes,
            self.uploads + other.uploads,
            self.upload_bytes + other.upload_bytes,
        )

    def minus(self, other: Use) -> Use:
        return Use(
            self.objects - other.objects,
            self.versions - other.versions,
            self.markers - other.markers,
            self.bytes - other.bytes,
            self.uploads - other.uploads,
            self.upload_bytes - other.upload_bytes,
        )

    def as_need(self) -> Need:
        """What of it quotas are about."""
        return Need(self.bytes + self.upload_bytes, self.versions)


NO_USE = Use()


class BucketUse(msgspec.Struct, frozen=True, array_like=True):
    bucket: str  # its id, in hex
    name: str
    use: Use = NO_USE
    quota: BucketQuota | None = None


class UsagePage(msgspec.Struct, frozen=True):
    buckets: list[BucketUse] = []
    format: int = 1


class UsageHead(msgspec.Struct, frozen=True):
    as_of_ms: int
    buckets: int  # that exist
    listed: int  # ... and are in the pages
    total: Use = NO_USE  # of all that exist
    over: list[str] = []  # names of buckets that have used their quota up, or nearly; some of them
    over_total: int = 0
    format: int = 1


def page_of(bucket: bytes) -> int:
    """The page that a bucket is on: by random bits of its id."""
    return bucket[-1] % PAGES


def is_nearly_full(one: BucketUse) -> bool:
    quota = one.quota
    if quota is None:
        return False
    used = one.use.as_need()
    return 0 < quota.bytes * NEARLY <= used.bytes or 0 < quota.objects * NEARLY <= used.objects


def is_full(one: BucketUse) -> bool:
    return one.quota is not None and is_beyond(one.quota, one.use.as_need(), Need(1, 1))


def foremost(found: Collection[BucketUse], count: int) -> Collection[BucketUse]:
    """Those with a quota first, then the largest."""
    if len(found) <= count:
        return found
    return heapq.nsmallest(count, found, key=lambda one: (one.quota is None, -one.use.as_need().bytes, one.name))


def in_pages(found: Mapping[bytes, BucketUse]) -> list[UsagePage]:
    """By bucket id -> all pages, in order."""
    pages: list[list[BucketUse]] = [[] for _ in range(PAGES)]
    for one in foremost(found.values(), BUCKETS_MAX):
        pages[page_of(bytes.fromhex(one.bucket))].append(one)
    return [UsagePage(sorted(page, key=lambda one: one.name)) for page in pages]


def head_of(found: Mapping[bytes, BucketUse], as_of_ms: int) -> UsageHead:
    total = NO_USE
    for one in found.values():
        total = total.plus(one.use)
    over = sorted(one.name for one in found.values() if is_nearly_full(one))
    return UsageHead(as_of_ms, len(found), min(len(found), BUCKETS_MAX), total, over[:OVER_MAX], len(over))


encode_usage = msgspec.json.Encoder().encode
decode_page = json_decoder(UsagePage, "a page of usage", known=1)  # raises msgspec.DecodeError
decode_head = json_decoder(UsageHead, "the head of usage", known=1)  # raises msgspec.DecodeError

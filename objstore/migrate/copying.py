"""Copies single objects of an origin into their bucket, with all that is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec

from objstore.engine.adopting import Original
from objstore.engine.engine import Operations
from objstore.engine.sealing import Sealing, new_sealing
from objstore.engine.types import BucketInfo
from objstore.migrate.answers import Found
from objstore.migrate.client import OriginClient
from objstore.model import bucketconfig
from objstore.model.encryption import BucketEncryption
from objstore.model.errors import BadDigest, OriginUnavailable
from objstore.model.sealed import BY_CLUSTER, KeyRing
from objstore.ports import Buffer, Random


class Copied(msgspec.Struct, frozen=True):
    size: int
    verified: bool  # its bytes have the MD5 that the ETag says


class Copier:
    """`ring`: the keys of buckets that are encrypted."""

    def __init__(self, engine: Operations, ring: KeyRing | None, random: Random) -> None:
        self._engine = engine
        self._ring = ring
        self._random = random

    async def copy(
        self, client: OriginClient, bucket: BucketInfo, migration: bytes, key: str, found: Found | None = None
    ) -> Copied | None:
        """None: the origin does not have it. AlreadyHere, MigrationOver, BadDigest, OriginUnavailable."""
        found = found or await client.head(key)
        if found is None:
            return None
        parts = await client.part_sizes(key, found)
        tags = await client.tags(key) if found.tagged else {}
        body = _Summed(client.read(key, found, 0, found.size), parts)
        original = Original(found.size, found.etag, found.modified_ms, found.headers, parts, tags)
        checks = _Checks(key, found, body)
        await self._engine.adopt_object(
            bucket.name,
            key,
            body.chunks(),
            original,
            migration,
            verify=checks.verify,
            sealing=self._sealing(bucket),
        )
        return Copied(found.size, checks.verified)

    def _sealing(self, bucket: BucketInfo) -> Sealing | None:
        wanted = bucketconfig.get(bucket.config, BucketEncryption)
        if wanted is None or not wanted.algorithm:
            return None
        if self._ring is None:
            text = "encrypts what it holds, but this process has no keys: set encryption.keys_file in its configuration"
            raise OriginUnavailable(f"nothing can be copied: bucket {bucket.name!r} {text}")
        return new_sealing(
            BY_CLUSTER, self._ring.current, self._ring.keys[self._ring.current], bucket.name, self._random
        )


class _Checks:
    def __init__(self, key: str, found: Found, body: _Summed) -> None:
        self._key = key
        self._found = found
        self._body = body
        self.verified = False

    def verify(self, md5: bytes) -> None:
        found, of_parts = self._found, self._body.etag()
        if found.md5 and found.md5 != md5.hex():
            raise BadDigest(f"object {self._key!r} came with the MD5 {md5.hex()}, but its ETag is {found.etag}")
        # Other services make ETags of parts as they like: that one differs proves nothing.
        self.verified = bool(found.md5) or of_parts == found.etag


class _Summed:
    """A body, of whose parts the MD5 is computed as it passes: an ETag of parts is made of these."""

    def __init__(self, body: AsyncIterator[Buffer], parts: tuple[int, ...]) -> None:
        self._body = body
        self._parts = parts
        self._sums: list[bytes] = []

    async def chunks(self) -> AsyncIterator[Buffer]:
        sizes = iter(self._parts)
        left, sum = next(sizes, 0), hashlib.md5(usedforsecurity=False)
        async for chunk in self._body:
            view = memoryview(chunk)
            while self._parts and len(view):
                sum.update(view[:left])
                taken = min(left, len(view))
                view, left = view[taken:], left - taken
                if not left:
                    self._sums.append(sum.digest())
                    left, sum = next(sizes, 0), hashlib.md5(usedforsecurity=False)
            yield chunk

    def etag(self) -> str:
        """ "": it did not come in parts."""
        whole = hashlib.md5(b"".join(self._sums), usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self._sums)}" if self._sums else ""

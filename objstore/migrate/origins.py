"""The origins of buckets, as one process reaches them: their secrets, opened, and the connections to them."""

from __future__ import annotations

import aiohttp

from objstore.codec import secrets
from objstore.engine.types import BucketInfo
from objstore.migrate.client import OriginClient, new_session
from objstore.model import bucketconfig
from objstore.model.errors import OriginUnavailable
from objstore.model.origin import Origin, about
from objstore.ports import Clock, Random

KNOWN_MAX = 64


class Origins:
    def __init__(self, cluster_secret: bytes, clock: Clock) -> None:
        self._under = secrets.derive(cluster_secret)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._clients: dict[tuple[str, Origin], OriginClient] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def of(self, bucket: BucketInfo) -> tuple[Origin, OriginClient] | None:
        """None: the bucket is not migrated."""
        origin = bucketconfig.get(bucket.config, Origin)
        return (origin, self.client(bucket.name, origin)) if origin is not None else None

    def client(self, bucket_name: str, origin: Origin) -> OriginClient:
        known = self._clients.get((bucket_name, origin))
        if known is not None:
            return known
        secret = secrets.unseal(self._under, origin.sealed, about(bucket_name))
        if secret is None:
            text = f"the secret of the origin of bucket {bucket_name!r} does not open: was cluster.secret changed?"
            raise OriginUnavailable(text)
        if self._session is None:
            self._session = new_session()
        if len(self._clients) >= KNOWN_MAX:
            self._clients.clear()
        client = self._clients[bucket_name, origin] = OriginClient(self._session, origin, secret, self._clock)
        return client


def sealed_secret(cluster_secret: bytes, bucket_name: str, secret: str, random: Random) -> bytes:
    return secrets.seal(secrets.derive(cluster_secret), secret, about(bucket_name), random.bytes(secrets.NONCE))

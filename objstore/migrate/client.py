"""Reads another S3 service: what a migration needs of it. Repeats what fails, with growing pauses.

An object is absent only when the service says so of the object and not of its bucket; whatever else goes wrong is
OriginUnavailable, so that nobody takes a dead service for an empty one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import aiohttp
from yarl import URL

from objstore.migrate import answers, signing
from objstore.migrate.answers import Found, Page
from objstore.model.errors import OriginUnavailable
from objstore.model.origin import Origin
from objstore.ports import Buffer, Clock

CONNECT_S = 5.0
SILENCE_S = 20.0  # between two pieces of an answer
TRIES = 4
PAUSE_S = 0.2  # before the second try; each further one waits twice as long
BUCKET_KNOWN_S = 10.0  # for so long the bucket of the origin is taken to be there
PARTS_AT_ONCE = 16
PARTS_KNOWN_MAX = 64  # objects of which the sizes of parts are remembered: each part costs a request
CHUNK = 256 << 10
_REPEATED = (408, 429, 500, 502, 503, 504)


def new_session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    return aiohttp.ClientSession(
        timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )


class OriginClient:
    """Of one origin."""

    def __init__(self, session: aiohttp.ClientSession, origin: Origin, secret: str, clock: Clock) -> None:
        self._session = session
        self._origin = origin
        self._secret = secret
        self._clock = clock
        self._host = URL(origin.endpoint).raw_authority
        self._bucket_seen = float("-inf")
        self._parts: dict[tuple[str, str], tuple[int, ...]] = {}  # by key and ETag

    async def head(self, key: str) -> Found | None:
        """None: the origin has no such object."""
        if not key.startswith(self._origin.prefix):
            return None
        async with self._request("HEAD", key, headers={"x-amz-checksum-mode": "ENABLED"}) as response:
            if response.status == 200:
                return answers.found_of(_headers(response))
        await self.check_bucket()
        return None

    async def check_bucket(self) -> None:
        """OriginUnavailable, unless the bucket can be read."""
        if self._clock.monotonic() - self._bucket_seen < BUCKET_KNOWN_S:
            return
        async with self._request("GET", query={"list-type": "2", "max-keys": "1"}) as response:
            if response.status == 404:
                raise OriginUnavailable(f"the origin {self._name} has no bucket {self._origin.bucket!r}")
        self._bucket_seen = self._clock.monotonic()

    async def read(self, key: str, found: Found, offset: int, length: int) -> AsyncIterator[Buffer]:
        """Exactly these bytes, of exactly that object; a connection that breaks is taken up again."""
        failures = 0
        while length:
            wanted = {"range": f"bytes={offset}-{offset + length - 1}", "if-match": f'"{found.etag}"'}
            try:
                async with self._request("GET", key, headers=wanted) as response:
                    if response.status not in (200, 206):
                        raise OriginUnavailable(f"the origin {self._name} has no object {key!r} any more")
                    if response.status == 200 and offset:
                        raise OriginUnavailable(f"the origin {self._name} does not serve ranges")
                    async for chunk in response.content.iter_chunked(CHUNK):
                        piece = chunk[:length]
                        offset += len(piece)
                        length -= len(piece)
                        failures = 0
                        yield piece
                        if not length:
                            return
                raise aiohttp.ClientPayloadError("it ended early")
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                if failures == TRIES:
                    raise OriginUnavailable(f"the origin {self._name} breaks off {key!r}: {error!r}") from error
                await asyncio.sleep(PAUSE_S * 2**failures)

    async def part_sizes(self, key: str, found: Found) -> tuple[int, ...]:
        """Of an object that was uploaded in parts; () if it was not, or the origin does not tell."""
        if not found.part_count:
            return ()
        known = self._parts.get((key, found.etag))
        if known is None:
            known = await self._ask_part_sizes(key, found)
            if len(self._parts) >= PARTS_KNOWN_MAX:
                self._parts.clear()
            self._parts[key, found.etag] = known
        return known

    async def _ask_part_sizes(self, key: str, found: Found) -> tuple[int, ...]:
        gate = asyncio.Semaphore(PARTS_AT_ONCE)

        async def size_of(number: int) -> int:
            async with gate:
                wanted = {"if-match": f'"{found.etag}"'}
                async with self._request("HEAD", key, {"partNumber": str(number)}, wanted) as response:
                    told = response.headers.get("x-amz-mp-parts-count")
                    return int(response.headers.get("content-length", 0)) if told == str(found.part_count) else -1

        if await size_of(1) < 0:
            return ()
        sizes = tuple(await asyncio.gather(*map(size_of, range(1, found.part_count + 1))))
        return sizes if sum(sizes) == found.size and min(sizes) >= 0 else ()

    async def tags(self, key: str) -> dict[str, str]:
        async with self._request("GET", key, {"tagging": ""}) as response:
            return answers.tags_of(await response.read()) if response.status == 200 else {}

    async def page(self, prefix: str, after: str, limit: int) -> Page:
        """Keys above `after` with this prefix, in the order of their bytes."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(limit), "prefix": prefix}
        if after:
            query["start-after"] = after
        async with self._request("GET", query=query) as response:
            if response.status == 404:
                raise OriginUnavailable(f"the origin {self._name} has no bucket {self._origin.bucket!r}")
            return answers.page_of(await response.read())

    @property
    def _name(self) -> str:
        return self._origin.endpoint

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is a success or 404. OriginUnavailable for all else, after some tries."""
        async with contextlib.AsyncExitStack() as stack:
            yield await self._answered(stack, method, key, query or {}, headers or {})

    async def _answered(
        self,
        stack: contextlib.AsyncExitStack,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> aiohttp.ClientResponse:
        said = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1))
            try:
                response = await self._send(method, key, query, headers)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                said = str(error) or type(error).__name__
                continue
            if response.status < 300 or response.status == 404:
                stack.push_async_exit(response)
                return response
            said = await self._complaint(response)
            if response.status not in _REPEATED:
                break
        raise OriginUnavailable(
            f"the origin {self._name}, from which the bucket is migrated, does not serve {method} {key!r}: {said}"
        )

    async def _send(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        origin = self._origin
        path, arguments = signing.encoded_path(origin.bucket, key), signing.encoded_query(query)
        every = signing.signed(
            method,
            path,
            arguments,
            {"host": self._host, "accept-encoding": "identity", **headers},
            access_key=origin.access_key,
            secret=self._secret,
            region=origin.region,
            now_ms=self._clock.wall_ms(),
        )
        url = URL(origin.endpoint.rstrip("/") + path + (f"?{arguments}" if arguments else ""), encoded=True)
        return await self._session.request(method, url, headers=every, allow_redirects=False)

    async def _complaint(self, response: aiohttp.ClientResponse) -> str:
        try:
            async with response:
                text = answers.error_of(await response.content.read(64 << 10))
        except (aiohttp.ClientError, TimeoutError):
            text = ""
        return f"{response.status} {text}".rstrip()


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}

"""Requests to an etcd of several members: one is asked until it fails, then the next (aiohttp).

What may be done twice is sent again to the next member after any failure. A change that may not is sent again only
when it certainly did not take place: no connection, or the member refused before it began. Otherwise its outcome is
unknown, and that is what the caller is told. Invariants:

- every member has `ATTEMPT_S` to answer, whatever state it is in;
- a member that is cut off from the majority refuses at once (`LEADER_HEADER`), so it is as good as one that is down;
- a token that has expired is replaced, once per attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from objstore.cluster import etcd_json as etcd
from objstore.cluster.etcd_access import ATTEMPT_S, LEADER_HEADER, TOKEN_HEADER, EtcdAccess, too_old, unsound, words_of
from objstore.cluster.etcd_json import Fault, Refusal
from objstore.model.errors import (
    DeadlineExceeded,
    InsufficientStorage,
    InvalidRequest,
    ObjstoreError,
    Unavailable,
    Unreachable,
)
from objstore.model.limits import CONNECT_TIMEOUT_S

log = logging.getLogger(__name__)

ELECTION_S = 4.0  # so long the members are asked again while they elect a leader
PAUSE_S = 0.2

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)


class LeaseGone(Exception):
    """etcd knows no such lease."""


class _NotDone(Exception):
    """This member did not do it. `soon`: it may in a moment."""

    def __init__(self, text: str, *, soon: bool = False) -> None:
        super().__init__(text)
        self.soon = soon


class _Unknown(Exception):
    """This member did not say whether it did it."""


class EtcdHttp:
    """`first`: index of the member to begin with; the processes of a cluster spread over them."""

    def __init__(self, access: EtcdAccess, *, first: int = 0) -> None:
        self._access = access
        self._at = first % len(access.endpoints)
        self._session: aiohttp.ClientSession | None = None
        self._tls = access.tls()
        self._token = ""
        self._authenticating = asyncio.Lock()
        self._checked: set[str] = set()  # members whose version was looked at

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, path: str, request: dict[str, Any], kind: type[R], *, repeatable: bool) -> R:
        """Raises Unavailable, LeaseGone, or InvalidRequest for what etcd will never take."""
        body = etcd.encode(request)

        async def attempt(endpoint: str) -> R:
            await self._prepare(endpoint)
            async with asyncio.timeout(ATTEMPT_S):
                return await self._ask(endpoint, path, body, kind)

        return await self._in_turn(attempt, repeatable=repeatable)

    @asynccontextmanager
    async def watch(self, request: dict[str, Any]) -> AsyncGenerator[tuple[etcd.Watched, AsyncIterator[etcd.Watched]]]:
        """What the member said at first (it answers at once that the watch is there), and what it says then. The
        iterator ends with the connection, for whatever reason."""
        body = etcd.encode(request)
        async with AsyncExitStack() as stack:

            async def attempt(endpoint: str) -> tuple[etcd.Watched, AsyncIterator[etcd.Watched]]:
                await self._prepare(endpoint)
                async with asyncio.timeout(ATTEMPT_S):
                    response = await self._send(endpoint, etcd.WATCH, body)
                    answers = _answers(response)
                    stack.push_async_callback(answers.aclose)
                    async for first in answers:
                        return first, answers
                    raise _Unknown("the watch ended before it began")

            yield await self._in_turn(attempt, repeatable=True)

    def leave(self, endpoint: str) -> None:
        """The next one from now on, unless that was decided already."""
        if self.endpoint == endpoint:
            self._at = (self._at + 1) % len(self._access.endpoints)

    @property
    def endpoint(self) -> str:
        return self._access.endpoints[self._at]

    # --- one after the other ---

    async def _in_turn(self, attempt: Callable[[str], Awaitable[T]], *, repeatable: bool) -> T:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + ELECTION_S
        tries = max(len(self._access.endpoints), 2 if repeatable else 1)  # the connection may have been an old one
        while True:
            problems: dict[str, str] = {}
            soon = late = False
            for _ in range(tries):
                endpoint = self.endpoint
                try:
                    return await attempt(endpoint)
                except (_NotDone, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                    soon |= isinstance(error, _NotDone) and error.soon
                    problems[endpoint] = _words(error)
                except (TimeoutError, _Unknown, aiohttp.ClientError, msgspec.MsgspecError) as error:
                    late |= isinstance(error, TimeoutError)
                    problems[endpoint] = _words(error)
                    if not repeatable:
                        self.leave(endpoint)
                        text = f"{endpoint}: {problems[endpoint]}; whether the change took place is not known"
                        raise (DeadlineExceeded if late else Unreachable)(text) from error
                self.leave(endpoint)
            if not soon or loop.time() >= give_up_at:
                text = "; ".join(f"{endpoint}: {problem}" for endpoint, problem in problems.items())
                raise (DeadlineExceeded if late else Unreachable)(f"no member of etcd can be asked: {text}")
            await asyncio.sleep(PAUSE_S)

    # --- one member ---

    async def _ask(self, endpoint: str, path: str, body: bytes, kind: type[R]) -> R:
        response = await self._send(endpoint, path, body)
        async with response:
            raw = await response.read()
        if b'"error"' in raw[:9]:  # of a stream that had begun with 200
            raise _raised(etcd.refusal(response.status, raw))
        return etcd.decode(raw, kind)

    async def _send(self, endpoint: str, path: str, body: bytes) -> aiohttp.ClientResponse:
        """An answer that is not a refusal. The caller closes it."""
        response, token = await self._post(endpoint, path, body)
        if response.status != 200:
            async with response:
                found = etcd.refusal(response.status, await response.read())
            if found.fault is not Fault.TOKEN or not self._access.user:
                raise _raised(found)
            if self._token == token:
                self._token = ""
            response, _ = await self._post(endpoint, path, body)
        if response.status != 200:
            async with response:
                raise _raised(etcd.refusal(response.status, await response.read()))
        return response

    async def _post(self, endpoint: str, path: str, body: bytes) -> tuple[aiohttp.ClientResponse, str]:
        """The answer, and the token that went along."""
        token = await self._log_in(endpoint)
        headers = {LEADER_HEADER: "true", **({TOKEN_HEADER: token} if token else {})}
        return await self._open().post(endpoint + path, data=body, headers=headers), token

    async def _prepare(self, endpoint: str) -> None:
        """What comes before a request. If it fails, the request was not sent."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._check_version(endpoint)
                await self._log_in(endpoint)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _NotDone(_words(error)) from error

    async def _log_in(self, endpoint: str) -> str:
        """A token; "" where none is needed."""
        if not self._access.user:
            return ""
        async with self._authenticating:
            if self._token:
                return self._token
            body = etcd.encode({"name": self._access.user, "password": self._access.password})
            url, headers = endpoint + etcd.AUTHENTICATE, {LEADER_HEADER: "true"}
            async with self._open().post(url, data=body, headers=headers) as response:
                raw = await response.read()
            if response.status == 200:
                self._token = etcd.decode(raw, etcd.Token).token
                return self._token
            found = etcd.refusal(response.status, raw)
            if found.fault is Fault.NO_AUTH:
                return ""  # it asks nobody for a password
            raise _NotDone(found.text) if found.fault is Fault.UNKNOWN else _raised(found)

    async def _check_version(self, endpoint: str) -> None:
        if endpoint in self._checked:
            return
        async with self._open().get(endpoint + etcd.VERSION) as response:
            raw = await response.read()
        try:
            version = etcd.decode(raw, etcd.Version).etcdserver
        except msgspec.MsgspecError:
            raise _NotDone(f"this is not etcd: GET {etcd.VERSION} is answered with {raw[:40]!r}") from None
        if problem := too_old(version):
            raise _NotDone(problem)
        if problem := unsound(version):
            log.warning("%s: %s", endpoint, problem)
        self._checked.add(endpoint)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=0)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session


async def _answers(response: aiohttp.ClientResponse) -> AsyncGenerator[etcd.Watched]:
    """Messages of a watch: lines, of any length."""
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):
                found = etcd.decode_watched(line)
                if isinstance(found, Refusal):
                    raise _raised(found)
                yield found
    finally:
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()  # a farewell by TLS would outlive our session
        response.close()


def _words(error: Exception) -> str:
    found = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return words_of(found) if isinstance(found, OSError) else str(error) or type(error).__name__


def _raised(found: Refusal) -> Exception:
    match found.fault:
        case Fault.LEASE_GONE:
            return LeaseGone(found.text)
        case Fault.TOO_LARGE:
            return InvalidRequest(f"{found.text}: start the members of etcd with --max-request-bytes 16777216")
        case Fault.FULL:
            return InsufficientStorage(
                f"{found.text}: compact and defragment etcd, disarm its alarm (etcdctl alarm disarm), and start "
                "its members with --auto-compaction-retention 1h"
            )
        case Fault.DENIED:
            return Unavailable(f"{found.text}; look at coordinator.user and coordinator.password, and at its role")
        case Fault.COMMON_NAME:
            return Unavailable(
                "etcd has users and asks clients for certificates: then its JSON gateway takes only certificates "
                "without a CommonName. Make coordinator.tls_cert anew without one (openssl req -subj /O=objstore)"
            )
        case Fault.TOKEN:
            return Unavailable(f"{found.text}: etcd wants a user; set coordinator.user and coordinator.password")
        case Fault.BUSY:
            return _NotDone(found.text, soon=True)
        case Fault.FOREIGN | Fault.NO_AUTH:
            return _NotDone(found.text)
        case Fault.UNKNOWN:
            return _Unknown(found.text)


WatchEnded = (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, _NotDone, _Unknown, ObjstoreError)

"""Reading an origin whose connections break."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from objstore.adapters.clock import SystemClock
from objstore.migrate import client as client_module
from objstore.migrate.answers import Found
from objstore.migrate.client import OriginClient, new_session
from objstore.model.errors import OriginUnavailable
from objstore.model.origin import Origin

BODY = bytes(range(250)) * 40
FOUND = Found(len(BODY), "e", 0, {}, False, "")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE_S", 0.001)


async def read_from(handler: Handler, offset: int = 0, length: int = len(BODY)) -> bytes:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    origin = Origin(b"", f"http://{host}:{port}", "b", "", "r", "k", b"", 0)
    session = new_session()
    try:
        client = OriginClient(session, origin, "secret", SystemClock())
        return b"".join([bytes(chunk) async for chunk in client.read("k", FOUND, offset, length)])
    finally:
        await session.close()
        await runner.cleanup()


class _Breaking:
    """Sends `piece` bytes of what is asked for, then breaks the connection, so many times; then all."""

    def __init__(self, piece: int, times: int) -> None:
        self._piece = piece
        self._times = times
        self.asked: list[str] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.headers["Range"])
        assert request.headers["If-Match"] == '"e"'
        first, last = map(int, self.asked[-1].removeprefix("bytes=").split("-"))
        wanted = BODY[first : last + 1]
        response = web.StreamResponse(status=206)
        response.content_length = len(wanted)
        await response.prepare(request)
        if len(self.asked) > self._times:
            await response.write(wanted)
            return response
        await response.write(wanted[: self._piece])
        assert request.transport is not None
        request.transport.close()
        return response


def test_a_connection_that_breaks_is_taken_up_where_it_broke() -> None:
    origin = _Breaking(1000, 6)
    assert asyncio.run(read_from(origin, 10, 9000)) == BODY[10:9010]
    assert origin.asked[:2] == ["bytes=10-9009", "bytes=1010-9009"]
    assert len(origin.asked) == 7


def test_one_that_brings_nothing_any_more_is_given_up() -> None:
    origin = _Breaking(0, 100)
    with pytest.raises(OriginUnavailable):
        asyncio.run(read_from(origin))
    assert len(origin.asked) == client_module.TRIES


@pytest.mark.parametrize(("status", "requests"), [(503, client_module.TRIES), (403, 1), (412, 1), (404, 1)])
def test_an_error_is_no_body(status: int, requests: int) -> None:
    asked = 0

    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=status, body=b"<Error><Code>Odd</Code><Message>why</Message></Error>")

    with pytest.raises(OriginUnavailable):
        asyncio.run(read_from(refuse))
    assert asked == requests


def test_a_service_that_knows_no_ranges_is_not_believed() -> None:
    async def whole(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=BODY)

    assert asyncio.run(read_from(whole)) == BODY
    with pytest.raises(OriginUnavailable):
        asyncio.run(read_from(whole, 5, 10))

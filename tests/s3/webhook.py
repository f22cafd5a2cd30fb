"""A target of event notifications on a loopback port: keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class Webhook:
    def __init__(self) -> None:
        self.status = 200
        self.url = ""
        self.messages: list[tuple[dict[str, str], bytes]] = []  # headers in lower case, body; also those refused
        self.taken: list[dict[str, Any]] = []  # documents that were answered with 2xx
        self._came = asyncio.Event()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.messages.append(({name.lower(): value for name, value in request.headers.items()}, body))
        if self.status < 300:
            self.taken.append(json.loads(body))
        self._came.set()
        return web.Response(status=self.status)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for document in self.taken for record in document.get("Records", [])]

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(20):
            while len(self.records) < count:
                self._came.clear()
                await self._came.wait()
        return self.records


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    hook = Webhook()
    server = web.Server(hook.answer, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    hook.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/events"
    try:
        yield hook
    finally:
        listener.close()
        await server.shutdown(1.0)

"""A gateway over the memory engine on a loopback port, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvloop

from gateway.app import RunningGateway, serve_gateway
from gateway.port import Engine
from gateway.settings import GatewaySettings
from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.model.sealed import KeyRing

ACCESS_KEY = "AKIATESTKEY000000001"
SECRET_KEY = "test/secret+key0000000000000000000000001"
REGION = "us-east-1"

SETTINGS = GatewaySettings(
    region=REGION,
    keys={ACCESS_KEY: SECRET_KEY},
    clock=SystemClock(),
    random=SystemRandom(),
    linger_s=0.5,
    encryption=KeyRing("test", {"test": bytes(range(32))}),
)


def settings(**changes: Any) -> GatewaySettings:
    return replace(SETTINGS, **changes)


@dataclass(frozen=True)
class LocalGateway:
    host: str
    port: int
    running: RunningGateway
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def close(self, grace_s: float, notice_s: float = 0.0) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(self.running.close(grace_s, notice_s), self.loop)


@contextmanager
def local_gateway(
    engine: Engine, chosen: GatewaySettings = SETTINGS, ssl_context: ssl.SSLContext | None = None
) -> Iterator[LocalGateway]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    try:
        start = serve_gateway(engine, chosen, "127.0.0.1", 0, ssl_context=ssl_context)
        running = asyncio.run_coroutine_threadsafe(start, loop).result(10)
        host, _, port = running.address.rpartition(":")
        gateway = LocalGateway(host, int(port), running, loop)
        try:
            yield gateway
        finally:  # uvloop does not close a loop in which somebody listens
            gateway.close(1.0).result(10)
            asyncio.run_coroutine_threadsafe(_cancel_rest(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _cancel_rest() -> None:
    """Connections that still wait for the rest of a refused body, say."""
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)

"""What a gateway answers under /_objstore/ ("_" is in no bucket name): health for balancers, metrics for Prometheus.

Health needs no authentication, and says no more than a balancer has to know: one sentence, no names, no numbers.

    health/live           200 while this process answers at all
    health/ready          200 if requests belong here; 503 while it stops, or reaches too little of the cluster to serve
    health/cluster        200 if every key can be written now
    health/cluster/read   200 if every key can be read now
    metrics               with the token as bearer (config: metrics.gateway)
"""

from __future__ import annotations

import hmac
import json

from aiohttp import web

from gateway.port import Engine
from gateway.settings import GatewaySettings

NAME = "_objstore"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def answer(
    method: str, page: str, headers: dict[str, str], engine: Engine, settings: GatewaySettings, *, stopping: bool
) -> web.StreamResponse:
    if method not in ("GET", "HEAD"):
        return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="only GET and HEAD\n")
    if page == "metrics" and settings.metrics is not None:
        return await _metrics(headers, settings)
    if page == "health/live":
        return _health("")
    if page == "health/ready":
        return _health("this gateway is stopping" if stopping else (await engine.reach()).serve)
    if page == "health/cluster":
        return _health((await engine.reach()).write)
    if page == "health/cluster/read":
        return _health((await engine.reach()).read)
    return web.Response(status=404, text="there are health/live, health/ready, health/cluster, health/cluster/read\n")


def _health(problem: str) -> web.Response:
    body = {"ok": not problem, "text": problem or "all is well"}
    return web.Response(
        status=503 if problem else 200,
        body=json.dumps(body).encode() + b"\n",
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


async def _metrics(headers: dict[str, str], settings: GatewaySettings) -> web.StreamResponse:
    assert settings.metrics is not None
    if settings.metrics_token:
        given = headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {settings.metrics_token}".encode()):
            text = "metrics need the token of this cluster: objstore health --token\n"
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"}, text=text)
    return web.Response(body=await settings.metrics(), headers={"Content-Type": _METRICS_TYPE})

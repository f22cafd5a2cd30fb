"""What a process exports as metrics, and its own small HTTP server for them (config: [metrics]).

Each role adds its sources when it is up. In role `all`, several would export the same: the first stands for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

from objstore import __version__
from objstore.admin.collect import observe
from objstore.admin.exposition import Family, of_cluster, render, single
from objstore.admin.snapshot import build
from objstore.cli.pooling import Pool
from objstore.cli.whereabouts import etcd_access
from objstore.config import Config
from objstore.model.errors import ConfigError
from objstore.model.histogram import Histogram
from objstore.model.traffic import Traffic
from objstore.ports import Clock
from objstore.rpc.sockets import join_address, split_address

if TYPE_CHECKING:
    from objstore.cluster.directory import Directory
    from objstore.cluster.lease import Heartbeat
    from objstore.node.service import NodeService

log = logging.getLogger(__name__)

SAMPLE_S = 1.0  # between two looks at how late the event loop is
CLUSTER_FRESH_S = 1.0  # two scrapes within it see the same cluster
TYPE = "text/plain; version=0.0.4; charset=utf-8"

Source: TypeAlias = Callable[[], Awaitable[Iterable[Family]]]


def token_of(config: Config) -> str:
    """What opens /_objstore/metrics of the gateways. Without one of its own it is made from the cluster's secret, and
    does not give that away."""
    if config.metrics.token:
        return config.metrics.token
    return hmac.new(config.cluster.secret.encode(), b"objstore metrics", hashlib.sha256).hexdigest()[:40]


class Exporter:
    """One per process."""

    def __init__(self, config: Config, role: str, clock: Clock) -> None:
        self._config = config
        self._role = role
        self._clock = clock
        self.lag = Histogram()
        self._sources: list[Source] = []
        self.heartbeat: Heartbeat | None = None  # hears of the coordinator more often than who waits for changes

    # --- sources ---

    def add(self, source: Source) -> None:
        self._sources.append(source)

    def add_node(self, service: NodeService) -> None:
        async def source() -> Iterable[Family]:
            report = service.report()
            return (
                single("objstore_fsync_duration_seconds", service.commit_times),
                single("objstore_lmdb_map_size_bytes", report.index_size_bytes),
                single("objstore_lmdb_map_used_bytes", report.index_used_bytes),
            )

        self.add(source)

    def add_directory(self, directory: Directory) -> None:
        async def source() -> Iterable[Family]:
            is_up, silence_s = not directory.problem, self._clock.monotonic() - directory.last_contact
            if self.heartbeat is not None and self.heartbeat.silence_s is not None:
                is_up, silence_s = self.heartbeat.registered, min(silence_s, self.heartbeat.silence_s)
            return (
                single("objstore_coordinator_up", int(is_up)),
                single("objstore_coordinator_last_contact_seconds", silence_s),
            )

        self.add(source)

    def add_traffic(self, stack: AsyncExitStack, own: Traffic, workers: int, folder: Path | None) -> Path | None:
        """What a gateway counts: this process, or together with all others of that gateway. `folder`: where they meet,
        made by the first of them; returned for the others."""
        own.loop_lag = self.lag
        if workers == 1 and folder is None:

            async def of_one() -> Iterable[Family]:
                return of_traffic(own)

            self.add(of_one)
            return None
        folder = folder or Path(stack.enter_context(TemporaryDirectory(prefix="objstore-gateway-")))
        pool = Pool(folder, own)

        async def of_all() -> Iterable[Family]:
            return of_traffic(await pool.total())

        self.add(of_all)
        pool.start()
        stack.push_async_callback(pool.close)
        return folder

    def add_cluster(self, config: Config) -> None:
        """The status of the whole cluster; asked for in a thread, at most once in CLUSTER_FRESH_S."""
        section = config.coordinator
        coordinator = section.address if section.kind == "embedded" else etcd_access(config)
        known: list[Family] = []
        asked_at = -CLUSTER_FRESH_S
        asking = asyncio.Lock()

        def look() -> list[Family]:
            seen = observe(coordinator, config.cluster.secret, local=False)
            return of_cluster(build(seen), seen.survey, seen.usage, seen.buckets)

        async def source() -> Iterable[Family]:
            nonlocal known, asked_at
            async with asking:
                if self._clock.monotonic() - asked_at >= CLUSTER_FRESH_S:
                    known = await asyncio.get_running_loop().run_in_executor(None, look)
                    asked_at = self._clock.monotonic()
            return known

        self.add(source)

    # --- export ---

    async def text(self) -> bytes:
        found: dict[str, Family] = {}
        for source in self._sources:
            for family in await source():
                found.setdefault(family.name, family)
        own = (
            Family("objstore_build_info", {(__version__, self._role): 1}),
            single("objstore_event_loop_lag_seconds", self.lag),
        )
        return render([*(family for family in own if family.name not in found), *found.values()])

    @asynccontextmanager
    async def running(self, *, listens: bool) -> AsyncIterator[None]:
        """Measures this process, and serves if it is to listen."""
        async with AsyncExitStack() as stack:
            sampling = asyncio.create_task(self._sample(), name="event loop lag")
            stack.callback(sampling.cancel)
            if listens and self._config.metrics.listen:
                await self._listen(stack, self._config.metrics.listen)
            yield

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            self.lag.observe(max(0.0, loop.time() - due))

    async def _listen(self, stack: AsyncExitStack, address: str) -> None:
        from aiohttp import web

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path not in ("/metrics", "/_objstore/metrics"):
                return web.Response(status=404, text="there is /metrics\n")
            return web.Response(body=await self.text(), headers={"Content-Type": TYPE})

        server = web.Server(answer, access_log=None)
        stack.push_async_callback(server.shutdown, 1.0)
        host, port = split_address(address)
        try:
            listener = await asyncio.get_running_loop().create_server(server, host, port)
        except OSError as error:
            raise ConfigError(f"cannot listen on metrics.listen = {address} ({error.strerror or error})") from error
        stack.callback(listener.close)
        bound = listener.sockets[0].getsockname()
        log.info("metrics at http://%s/metrics", join_address(bound[0], bound[1]))


def of_traffic(traffic: Traffic) -> list[Family]:
    return [
        Family(
            "objstore_s3_requests_total",
            {
                (operation, str(status)): count
                for operation, by_status in traffic.requests.items()
                for status, count in by_status.items()
            },
        ),
        Family("objstore_s3_request_duration_seconds", {(op,): found for op, found in traffic.durations.items()}),
        Family("objstore_s3_first_byte_seconds", {(op,): found for op, found in traffic.first_bytes.items()}),
        Family("objstore_s3_bytes_total", {("in",): traffic.bytes_in, ("out",): traffic.bytes_out}),
        Family(
            "objstore_notify_deliveries_total",
            {
                (target, result): count
                for target, by_result in traffic.notified.items()
                for result, count in by_result.items()
            },
        ),
        single("objstore_s3_requests_in_flight", traffic.in_flight),
        single("objstore_event_loop_lag_seconds", traffic.loop_lag),
    ]

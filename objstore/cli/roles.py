"""What each role consists of: its parts, built in order and closed in the opposite one.

A role is an async context manager: entered, it serves and yields its address; left (by cancellation), it closes.
What is fatal later is told to `Context.fail`. Parts are imported inside the roles: a gateway need not load LMDB,
nor a node aiohttp; and only here, in the gateway role, does objstore know the package `gateway`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from objstore import __version__
from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.cli.coordination import WAITING_RETRY_S, Waiting, cluster_id_of, coordinator_of, wrong_cluster
from objstore.cli.exporter import Exporter, token_of
from objstore.cluster.directory import Directory
from objstore.cluster.follow import follow
from objstore.cluster.lease import Heartbeat, refreshed_every
from objstore.cluster.port import GATEWAYS, NODES, REPAIRERS, SCRUB_CONTROL_KEY, Coordinator
from objstore.config import Config, missing
from objstore.config.sections import ClusterSection
from objstore.model.cluster import GatewayLease, NodeLease, encode_lease
from objstore.model.errors import ConfigError, Fatal
from objstore.model.scrubbing import ScrubControl, decode_scrub
from objstore.ports import Clock, Random, Service
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.rpc.sockets import join_address, split_address

if TYPE_CHECKING:
    from objstore.adapters.disk import LocalDisk
    from objstore.node.service import NodeService

log = logging.getLogger(__name__)

ELECTION_TTL_MIN_S = 2.0
CHECK_AGAIN_S = 10.0
NODE_STOP_S = 5.0  # writes and their syncs that are under way when a node is asked to stop
STATS_S = 2.0  # between two looks at how full a node is
WILDCARDS = ("0.0.0.0", "::", "")


@dataclass(frozen=True, slots=True)
class Context:
    """One process, as its roles see it."""

    config: Config
    role: str
    name: str
    clock: Clock
    random: Random
    fatal: asyncio.Future[Fatal]
    exporter: Exporter
    worker: bool = False  # of a gateway that another process speaks for
    pool: Path | None = None  # where it and the other processes of its gateway put together what they count
    argv: Sequence[str] = ()

    @classmethod
    def of_this_process(
        cls, config: Config, role: str, name: str, *, worker: bool, argv: Sequence[str], pool: Path | None = None
    ) -> Context:
        fatal: asyncio.Future[Fatal] = asyncio.get_running_loop().create_future()
        clock = SystemClock()
        exporter = Exporter(config, role, clock)
        return cls(config, role, name, clock, SystemRandom(), fatal, exporter, worker, pool, argv)

    @property
    def secret(self) -> bytes:
        return self.config.cluster.secret.encode()

    def fail(self, error: Fatal) -> None:
        if not self.fatal.done():
            self.fatal.set_result(error)


Role = Callable[[Context], AbstractAsyncContextManager[str]]


# --- coordinator -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def coordinator(context: Context) -> AsyncIterator[str]:
    from objstore.adapters.disk import LocalDisk
    from objstore.cli.store import open_store
    from objstore.cluster.embedded import TABLE, open_coordinator
    from objstore.cluster.mirror import FILE, refuse_later
    from objstore.node import sealed

    section = context.config.coordinator
    _refuse_etcd(context)
    if section.data is None:
        raise missing("coordinator.data", "coordinator")
    disk = LocalDisk(section.data)
    disk.lock()
    try:
        refuse_later(disk)
        tables = (TABLE, sealed.TABLE)
        opening = partial(open_store, disk, "kv", tables, (TABLE,), substitute=FILE)
        kv = sealed.SealedKV(await asyncio.get_running_loop().run_in_executor(None, opening), (TABLE,))
        service = await open_coordinator(
            kv,
            context.clock,
            context.random,
            name=context.config.cluster.name,
            disk=disk,
            cluster_id=section.cluster_id,
        )
        service.broken.add_done_callback(lambda broken: context.fail(broken.result()))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(service.close)
            yield await _listen(stack, context, service, section.listen, "")
    finally:
        disk.close()


def _refuse_etcd(context: Context) -> None:
    if context.config.coordinator.kind == "etcd":
        raise ConfigError(
            f'coordinator.kind = "etcd": the coordinator is etcd then, and role {context.role} has none of its own to '
            'run. Start the other roles; or write kind = "embedded"'
        )


# --- node ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def node(context: Context) -> AsyncIterator[str]:
    from objstore.adapters.disk import LocalDisk
    from objstore.node.identity import peek

    section = context.config.node
    if section.data is None:
        raise missing("node.data", "node")
    if not section.advertise and split_address(section.listen)[0] in WILDCARDS:
        raise ConfigError(
            f"node.listen = {section.listen!r} is every address of this machine; "
            f"set node.advertise to the one that the other processes reach it by"
        )
    disk = LocalDisk(section.data)
    disk.lock()
    try:
        async with AsyncExitStack() as stack:
            link = await _join(stack, context, cluster_id=peek(disk), founding=context.random.bytes(16).hex())
            checking = asyncio.create_task(_check_cluster(context, link), name="check of the cluster")
            stack.callback(checking.cancel)
            yield await _run_node(stack, context, link, disk)
    finally:
        disk.close()


async def _run_node(stack: AsyncExitStack, context: Context, link: Link, disk: LocalDisk) -> str:
    from objstore.cli.store import open_store
    from objstore.node.pace import QUICK_S
    from objstore.node.quarantine import DAY_S, Bounds
    from objstore.node.service import COUNTED, INDEX, TABLES, open_node
    from objstore.node.space import Thresholds

    section = context.config.node
    kv = await asyncio.get_running_loop().run_in_executor(None, open_store, disk, INDEX, TABLES, COUNTED)
    stack.callback(kv.close)
    capacity = section.capacity or disk.space()[1]
    directory = await _follow(stack, context, link, with_nodes=False)  # for gateways that cannot ask the coordinator
    service = await open_node(
        disk,
        kv,
        context.clock,
        context.random,
        cluster_id=link.cluster_id,
        name=context.name,
        zone=section.zone,
        capacity_bytes=capacity,
        reserve_bytes=min(section.reserve, capacity // 20),  # on a small disk the default would leave nothing
        quarantine=Bounds(section.quarantine_days * DAY_S, min(section.quarantine, capacity // 20)),
        thresholds=Thresholds(section.nearfull / 100, section.full / 100, section.backfill_full / 100),
        scrub_rate=section.scrub,
        quick_s=QUICK_S,
        partition_bits=context.config.cluster.partition_bits,
        on_fatal=context.fail,
        newest_map=lambda: directory.raw_map,
        has_share=directory.gives_share,
    )
    stack.push_async_callback(service.close)
    context.exporter.add_node(service)
    service.coordinator_away_ms = lambda: directory.away_ms
    steering = asyncio.create_task(follow(link.coordinator, SCRUB_CONTROL_KEY, partial(_steer_scrub, service)))
    stack.callback(steering.cancel)
    listening = await _listen(stack, context, service, section.listen, link.cluster_id, NODE_STOP_S)
    address = _with_port_of(section.advertise, listening) if section.advertise else listening
    started_ms = context.clock.wall_ms()

    def lease() -> bytes:
        stats = service.stats()
        return encode_lease(
            NodeLease(
                service.id,
                context.name,
                section.zone,
                address,
                stats.capacity_bytes,
                stats.used_bytes,
                stats.free_bytes,
                started_ms,
                __version__,
                os.getpid(),
                service.has_lost_records,
                service.is_written,
                **service.report()._asdict(),
            )
        )

    await _announce(stack, context, link, NODES + service.id, refreshed_every(STATS_S, context.clock, lease))
    return address


def _steer_scrub(service: NodeService, raw: bytes) -> None:
    try:
        service.steer_scrub(decode_scrub(raw) if raw else ScrubControl())
    except msgspec.DecodeError as error:
        log.error("%s cannot be read and is ignored: %s", SCRUB_CONTROL_KEY, error)


async def _check_cluster(context: Context, link: Link) -> None:
    """A node of one cluster that registers with the coordinator of another would serve nobody, and not know why."""
    ours, config = link.cluster_id, context.config
    try:
        theirs = await cluster_id_of(link.coordinator, config, context.clock, founding=ours)
        if theirs != ours:
            raise wrong_cluster(config, ours, theirs)
    except Fatal as error:
        context.fail(error)
        return
    while config.coordinator.kind == "etcd":  # it may lose everything, and is told again then
        await asyncio.sleep(CHECK_AGAIN_S)
        try:
            theirs = await cluster_id_of(link.coordinator, config, context.clock, founding=ours)
            if theirs != ours:
                raise wrong_cluster(config, ours, theirs)
        except Fatal as error:
            log.error("%s", error)  # what this node serves is right all the same


# --- gateway ---------------------------------------------------------------------------------------------------


def policy_fault(document: bytes) -> str:
    """Why a gateway would not take this policy of users; "" if it does."""
    from gateway.s3.errors import S3Error
    from gateway.s3.policies import parse

    try:
        parse(document)
    except S3Error as error:
        return error.message
    return ""


@asynccontextmanager
async def gateway(context: Context) -> AsyncIterator[str]:
    from gateway.app import serve_gateway
    from gateway.settings import GatewaySettings
    from objstore.cli.migrating import read_through
    from objstore.cli.notifying import deliver_from
    from objstore.cli.workers import Workers
    from objstore.cluster.usage import UsageReader
    from objstore.engine.engine import Engine
    from objstore.engine.identities import Identities
    from objstore.engine.peers import Peers

    section = context.config.gateway
    if not section.keys:
        raise ConfigError(
            "gateway.keys is empty, so nobody could sign in: write a pair under [[gateway.keys]] in the configuration "
            "file, or set OBJSTORE_GATEWAY__KEYS=ACCESS:SECRET"
        )
    async with AsyncExitStack() as stack:
        link = await _join(stack, context)
        directory = await _follow(stack, context, link)
        usage = UsageReader(link.coordinator, context.clock)
        stack.push_async_callback(usage.close)
        engine = Engine(Peers(directory, link.transport, context.clock), context.clock, context.random, usage)
        stack.push_async_callback(engine.close)
        sender = deliver_from(stack, engine, context.config, context.clock)
        read_through(stack, engine, context.config, context.clock, context.random)
        settings = GatewaySettings(
            region=section.region,
            keys={pair.access_key: pair.secret_key for pair in section.keys},
            clock=context.clock,
            random=context.random,
            identities=Identities(engine.registers, context.clock, context.random, context.secret),
            encryption=context.config.encryption.keys,
            notify=sender,
            lifecycle_day_ms=round(1000 * context.config.lifecycle.day_s),
            domain=section.domain or None,
            metrics=None if context.config.metrics.gateway == "off" else context.exporter.text,
            metrics_token="" if context.config.metrics.gateway == "open" else token_of(context.config),
        )
        host, port = split_address(section.listen)
        shared = context.worker or section.workers > 1
        try:
            running = await serve_gateway(engine, settings, host, port, reuse_port=shared)
        except OSError as error:
            raise ConfigError(f"cannot listen on {section.listen} ({error.strerror or error})") from error
        running.traffic.notified = sender.counts
        context.exporter.add_cluster(context.config)
        pool = context.exporter.add_traffic(stack, running.traffic, section.workers, context.pool)
        workers = Workers(context.argv, running.address, 0 if context.worker else section.workers - 1, pool)

        async def stop() -> None:  # together: a balancer may ask any of them whether it is ready
            limits_s = section.stop_timeout_s, section.stop_notice_s
            await asyncio.gather(running.close(*limits_s), workers.close(sum(limits_s)))

        stack.push_async_callback(stop)
        workers.start()
        await _wait_for_map(directory, context)
        if not context.worker:
            await _register(stack, context, link, GATEWAYS, _reached_by(section.advertise, running.address))
        yield running.address


# --- repairer --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def repairer(context: Context) -> AsyncIterator[str]:
    """It answers nobody, so its address is empty."""
    from objstore.cli.migrating import walk_from
    from objstore.cli.notifying import sender_of
    from objstore.lifecycle.settings import LifecycleSettings
    from objstore.repair.service import Repairer
    from objstore.repair.settings import RepairSettings

    cluster, repair, lifecycle = context.config.cluster, context.config.repair, context.config.lifecycle
    settings = RepairSettings(
        code=cluster.code,
        partition_bits=cluster.partition_bits,
        codec=codec_of(cluster),
        initial_nodes=cluster.initial_nodes,
        down_after_s=repair.down_after_s,
        out_after_s=repair.out_after_s,
        election_ttl_s=max(ELECTION_TTL_MIN_S, context.config.lease_ttl_s),
        budget=repair.bandwidth,
        garbage_delay_s=repair.garbage_delay_s,
        lifecycle=LifecycleSettings(lifecycle.interval_s, round(1000 * lifecycle.day_s)),
    )
    async with AsyncExitStack() as stack:
        link = await _join(stack, context)
        directory = await _follow(stack, context, link)
        sender = sender_of(stack, context.config, context.clock)
        working = Repairer(
            link.coordinator, directory, link.transport, context.clock, context.random, settings, context.name, sender
        )
        stack.push_async_callback(working.close)
        working.start()
        reach = link.coordinator, directory, link.transport, context.clock, context.random
        walk_from(stack, context.config, *reach, lambda: working.is_leader)
        context.exporter.add_cluster(context.config)
        await _register(stack, context, link, REPAIRERS, "")
        yield ""


def codec_of(section: ClusterSection) -> str:
    """For new objects, once the map is made."""
    from objstore.codec.erasure import available

    if section.codec != "auto":
        return section.codec
    return "isal" if "isal" in available() else "zfec"


# --- all -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def everything(context: Context) -> AsyncIterator[str]:
    """A whole cluster for a trial: what survives here is the death of nothing but the process."""
    config = context.config
    data = config.node.data
    if data is None:
        raise missing("node.data", "all")
    _refuse_etcd(context)
    async with AsyncExitStack() as stack:
        section = replace(config.coordinator, data=data / "coordinator", listen="127.0.0.1:0")
        address = await stack.enter_async_context(
            coordinator(replace(context, config=replace(config, coordinator=section)))
        )
        config = replace(config, coordinator=replace(section, address=address))
        for number in range(1, (config.cluster.initial_nodes or config.cluster.code.nodes_min) + 1):
            name = f"n{number}"
            section_of_node = replace(config.node, name=name, data=data / name, listen="127.0.0.1:0", advertise="")
            member = replace(context, name=name, config=replace(config, node=section_of_node))
            await stack.enter_async_context(node(member))
        rest = replace(context, config=replace(config, gateway=replace(config.gateway, workers=1)))
        await stack.enter_async_context(repairer(rest))
        yield await stack.enter_async_context(gateway(rest))


ROLES: dict[str, Role] = {
    "coordinator": coordinator,
    "node": node,
    "gateway": gateway,
    "repairer": repairer,
    "all": everything,
}


# --- what several roles have in common -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """The way to the rest of the cluster."""

    cluster_id: str
    transport: TcpTransport
    coordinator: Coordinator


async def _join(stack: AsyncExitStack, context: Context, *, cluster_id: str = "", founding: str = "") -> Link:
    """Connect, and learn which cluster this is unless that is known; waits for the coordinator then."""
    transport = TcpTransport(context.secret, cluster_id)
    stack.push_async_callback(transport.close)
    coordinator = coordinator_of(context.config, transport)
    stack.push_async_callback(coordinator.close)
    if not cluster_id:
        cluster_id = await cluster_id_of(coordinator, context.config, context.clock, founding=founding)
        transport.cluster_id = cluster_id
    return Link(cluster_id, transport, coordinator)


async def _follow(stack: AsyncExitStack, context: Context, link: Link, *, with_nodes: bool = True) -> Directory:
    directory = Directory(link.coordinator, context.clock, with_nodes=with_nodes)
    stack.push_async_callback(directory.close)
    directory.start()
    context.exporter.add_directory(directory)
    return directory


async def _wait_for_map(directory: Directory, context: Context) -> None:
    waiting = Waiting("the first cluster map", context.clock)
    while directory.topology is None:
        if directory.is_lost:  # it serves when the map is back; whoever waits for this process can go on meanwhile
            log.error("no request can be answered: %s", directory.missing())
            return
        await directory.wait_change(WAITING_RETRY_S)
        waiting.say(directory.missing())


async def _listen(
    stack: AsyncExitStack, context: Context, service: Service, listen: str, cluster_id: str, stop_s: float = 1.0
) -> str:
    """`stop_s`: what requests at work get to end, once this process is asked to."""
    host, port = split_address(listen)
    server = await serve(service, host, port, context.secret, cluster_id)
    stack.push_async_callback(server.close, stop_s)
    return server.address


def _with_port_of(advertise: str, listening: str) -> str:
    """Port 0 in what is advertised: the port that was really bound."""
    host, port = split_address(advertise)
    return join_address(host, port or split_address(listening)[1])


def _reached_by(advertise: str, listening: str) -> str:
    """Where a gateway is for balancers and people."""
    host, port = split_address(listening)
    if advertise:
        return _with_port_of(advertise, listening)
    return join_address(platform.node(), port) if host in WILDCARDS else listening


async def _register(stack: AsyncExitStack, context: Context, link: Link, prefix: str, address: str) -> None:
    """Under a new random id: such a process has nothing that would outlive it."""
    id = context.random.bytes(8).hex()
    lease = GatewayLease(id, context.name, address, context.clock.wall_ms(), __version__, os.getpid())
    value = encode_lease(lease)
    await _announce(stack, context, link, prefix + id, lambda: value)


async def _announce(
    stack: AsyncExitStack, context: Context, link: Link, key: str, make_value: Callable[[], bytes]
) -> None:
    heartbeat = Heartbeat(link.coordinator, key, make_value, context.config.lease_ttl_s)
    stack.push_async_callback(heartbeat.close)
    heartbeat.start()
    context.exporter.heartbeat = heartbeat

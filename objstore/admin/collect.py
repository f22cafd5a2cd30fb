"""Asks a running cluster for everything that its status is made of. Blocking, and without asyncio: fast to start.

One request to the coordinator for all records, then a short ping of every node and gateway at once, because a
lease only says that a process lived some seconds ago. Never raises for what is down: that is the finding.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from objstore.admin.snapshot import Observation, Probe
from objstore.cluster.port import USAGE, USAGE_HEAD_KEY
from objstore.model.cluster import decode_gateway_lease, decode_map, decode_node_lease
from objstore.model.errors import DeadlineExceeded, ObjstoreError
from objstore.model.survey import Survey, decode_survey
from objstore.model.usage import BucketUse, UsageHead, decode_head, decode_page, foremost
from objstore.rpc.blocking import BlockingClient
from objstore.rpc.sockets import split_address
from objstore.wire.messages import CoEntries, CoRange, Ping, Pong

if TYPE_CHECKING:
    from objstore.cluster.etcd_access import EtcdAccess

COORDINATOR_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 0.7
SERIES_MAX = 200  # buckets that metrics are about

T = TypeVar("T")


def observe(coordinator: str | EtcdAccess, secret: str, *, local: bool, witnesses: Iterable[str] = ()) -> Observation:
    """`coordinator`: host:port, "" while it starts; or etcd. `local`: it is a cluster of `objstore up` or the like.
    `witnesses`: addresses of nodes that may know for how long the coordinator is away, when it is."""
    if not coordinator:
        return Observation(at_ms=_now_ms(), coordinator_error="it is still starting", local=local)
    try:
        records = _read_all(coordinator, secret)
    except ObjstoreError as error:
        problem = str(error) or type(error).__name__
        away_ms = _away_ms(witnesses, secret)
        return Observation(at_ms=_now_ms(), coordinator_error=problem, away_ms=away_ms, local=local)
    cluster_map = decode_map(records["map"]) if "map" in records else None
    nodes = tuple(_each(records, "nodes/", decode_node_lease))
    gateways = tuple(_each(records, "gateways/", decode_gateway_lease))
    cluster_id = cluster_map.cluster_id if cluster_map else ""
    clocks: dict[str, int] = {}
    checks: dict[str, Callable[[], Probe]] = {}
    for node in nodes:
        checks[node.address] = partial(_ping, node.address, secret, cluster_id, clocks)
    for gateway in gateways:
        checks[gateway.address] = partial(_is_live, gateway.address)
    probes = _all_at_once(checks)
    return Observation(
        at_ms=_now_ms(),
        cluster_map=cluster_map,
        nodes=nodes,
        gateways=gateways,
        repairers=tuple(_each(records, "repairers/", decode_gateway_lease)),
        leader=records.get("leader/repair", b"").decode(errors="replace"),
        survey=_survey(records),
        usage=_usage(records),
        buckets=_buckets(records),
        probes=probes,
        clocks=dict(clocks),
        local=local,
    )


def _read_all(coordinator: str | EtcdAccess, secret: str) -> dict[str, bytes]:
    if not isinstance(coordinator, str):
        from objstore.cluster.etcd_blocking import read_all

        return read_all(coordinator, COORDINATOR_TIMEOUT_S)
    with BlockingClient(coordinator, secret.encode(), "", timeout_s=COORDINATOR_TIMEOUT_S) as client:
        reply, _ = client.call(CoRange(prefix=""))
    assert isinstance(reply, CoEntries)
    return dict(zip(reply.keys, reply.values, strict=True))


def _away_ms(witnesses: Iterable[str], secret: str) -> int:
    """The longest that any of these nodes has waited for the coordinator; 0 if none says."""
    found: list[int] = []

    def ask(address: str) -> Probe:
        with BlockingClient(address, secret.encode(), "", timeout_s=PROBE_TIMEOUT_S) as client:
            try:
                pong, _ = client.call(Ping())
            except ObjstoreError:
                return "refused"
        if isinstance(pong, Pong):
            found.append(pong.away_ms)
        return "answers"

    _all_at_once({address: partial(ask, address) for address in witnesses})
    return max(found, default=0)


def _each(records: dict[str, bytes], prefix: str, decode: Callable[[bytes], T]) -> Iterable[T]:
    return (decode(value) for key, value in records.items() if key.startswith(prefix))


def _survey(records: dict[str, bytes]) -> Survey | None:
    try:
        return decode_survey(records["survey"]) if "survey" in records else None
    except msgspec.MsgspecError:
        return None  # of another version: as good as none


def _usage(records: dict[str, bytes]) -> UsageHead | None:
    try:
        return decode_head(records[USAGE_HEAD_KEY]) if USAGE_HEAD_KEY in records else None
    except msgspec.MsgspecError:
        return None


def _buckets(records: dict[str, bytes]) -> tuple[BucketUse, ...]:
    try:
        found = [one for page in _each(records, USAGE, decode_page) for one in page.buckets]
    except msgspec.MsgspecError:
        return ()
    return tuple(foremost(found, SERIES_MAX))


def _all_at_once(checks: dict[str, Callable[[], Probe]]) -> dict[str, Probe]:
    found: dict[str, Probe] = dict.fromkeys(checks, "silent")

    def run(address: str, check: Callable[[], Probe]) -> None:
        found[address] = check()

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in checks.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 2 * PROBE_TIMEOUT_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def _ping(address: str, secret: str, cluster_id: str, clocks: dict[str, int]) -> Probe:
    """A whole handshake and answer: a stopped process still accepts connections. Its clock, minus ours in the middle of
    the call, is put into `clocks`: off by half of the call at most."""
    with BlockingClient(address, secret.encode(), cluster_id, timeout_s=PROBE_TIMEOUT_S) as client:
        try:
            client.call(Ping())  # connects
            before = _now_ms()
            pong, _ = client.call(Ping())
            if isinstance(pong, Pong) and pong.wall_ms:
                clocks[address] = pong.wall_ms - (before + _now_ms()) // 2
        except DeadlineExceeded:
            return "silent"
        except ObjstoreError:
            return "refused"
    return "answers"


def _is_live(address: str) -> Probe:
    """One request to a gateway, without the weight of an HTTP client: that it accepts a connection proves nothing."""
    try:
        with socket.create_connection(split_address(address), timeout=PROBE_TIMEOUT_S) as connection:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.sendall(
                f"GET /_objstore/health/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
            )
            return "answers" if connection.recv(12) == b"HTTP/1.1 200" else "refused"
    except TimeoutError:
        return "silent"
    except OSError:
        return "refused"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Asks a running cluster for everything that its status is made of. Blocking, and without asyncio: fast to start.

One request to the coordinator for all records, then a short ping of every node and gateway at once, because a
lease only says that a process lived some seconds ago. Never raises for what is down: that is the finding.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from objstore.admin.snapshot import Observation, Probe
from objstore.model.cluster import decode_gateway_lease, decode_map, decode_node_lease
from objstore.model.errors import DeadlineExceeded, ObjstoreError
from objstore.model.survey import Survey, decode_survey
from objstore.rpc.blocking import BlockingClient
from objstore.wire.messages import CoEntries, CoRange, Ping

COORDINATOR_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 0.7

T = TypeVar("T")


def observe(coordinator: str, secret: str, *, local: bool) -> Observation:
    """`coordinator`: host:port; "" while it starts. `local`: the cluster was made by `objstore up` or the like."""
    if not coordinator:
        return Observation(at_ms=_now_ms(), coordinator_error="it is still starting", local=local)
    try:
        records = _read_all(coordinator, secret)
    except ObjstoreError as error:
        return Observation(at_ms=_now_ms(), coordinator_error=str(error) or type(error).__name__, local=local)
    cluster_map = decode_map(records["map"]) if "map" in records else None
    nodes = tuple(_each(records, "nodes/", decode_node_lease))
    gateways = tuple(_each(records, "gateways/", decode_gateway_lease))
    cluster_id = cluster_map.cluster_id if cluster_map else ""
    checks: dict[str, Callable[[], Probe]] = {}
    for node in nodes:
        checks[node.address] = lambda address=node.address: _ping(address, secret, cluster_id)  # type: ignore[misc]
    for gateway in gateways:
        checks[gateway.address] = lambda address=gateway.address: _connect(address)  # type: ignore[misc]
    probes = _all_at_once(checks)
    return Observation(
        at_ms=_now_ms(),
        cluster_map=cluster_map,
        nodes=nodes,
        gateways=gateways,
        repairers=tuple(_each(records, "repairers/", decode_gateway_lease)),
        leader=records.get("leader/repair", b"").decode(errors="replace"),
        survey=_survey(records),
        probes=probes,
        local=local,
    )


def _read_all(coordinator: str, secret: str) -> dict[str, bytes]:
    with BlockingClient(coordinator, secret.encode(), "", timeout_s=COORDINATOR_TIMEOUT_S) as client:
        reply, _ = client.call(CoRange(prefix=""))
    assert isinstance(reply, CoEntries)
    return dict(zip(reply.keys, reply.values, strict=True))


def _each(records: dict[str, bytes], prefix: str, decode: Callable[[bytes], T]) -> Iterable[T]:
    return (decode(value) for key, value in records.items() if key.startswith(prefix))


def _survey(records: dict[str, bytes]) -> Survey | None:
    try:
        return decode_survey(records["survey"]) if "survey" in records else None
    except msgspec.MsgspecError:
        return None  # of another version: as good as none


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


def _ping(address: str, secret: str, cluster_id: str) -> Probe:
    """A whole handshake and answer: a stopped process still accepts connections."""
    with BlockingClient(address, secret.encode(), cluster_id, timeout_s=PROBE_TIMEOUT_S) as client:
        try:
            client.call(Ping())
        except DeadlineExceeded:
            return "silent"
        except ObjstoreError:
            return "refused"
    return "answers"


def _connect(address: str) -> Probe:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_TIMEOUT_S).close()
    except TimeoutError:
        return "silent"
    except OSError:
        return "refused"
    return "answers"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

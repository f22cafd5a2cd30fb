"""What a cluster on this machine is made of, and how it comes up: shape, configuration, keys, ports, order.

`launch` is the one way to start it, for `objstore up`, `objstore demo` and `LocalCluster`. A folder that has
held a cluster gives it back with its shape, keys, port and data; whatever an earlier run left behind (state, locks,
stray processes) never stands in the way. Loopback only: nothing here is meant for more than one machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from objstore.local import commands
from objstore.local.folder import ExtraNode, Folder, MemberState, Shape, State, process_ticks, write_private
from objstore.local.supervisor import Member, Report, Supervisor, end_leftovers
from objstore.model.cluster import ErasureCode
from objstore.model.errors import ConfigError, Conflict, InvalidRequest
from objstore.model.sealed import show_key

HOST = "127.0.0.1"
REGION = "us-east-1"
NODES_MAX = 64  # processes of one machine, not of a cluster
CAPACITY_MIN = 64 << 20  # of a node; the volumes of an empty one need some
RESERVE_MAX = 256 << 20
RESERVE_PART = 16  # of small nodes it is a part
_PORTS_TRIED = 100


@dataclass(frozen=True, slots=True)
class Options:
    """None: as the folder says, else the default. Times in seconds."""

    nodes: int | None = None
    code: str | None = None
    zones: int | None = None
    gateways: int | None = None
    repairers: int | None = None
    port: int | None = None  # of the first gateway; 0 = any
    capacity: int | None = None  # bytes of each node; goes into the configuration of a new cluster
    heartbeat_s: float = 0.5
    down_after_s: float = 2.0
    out_after_s: float = 15.0
    environment: Mapping[str, str] = field(default_factory=dict)  # for all processes, above everything else


@dataclass(slots=True)
class Cluster:
    """A running one. `close` ends its processes and gives the folder free; the data stay."""

    folder: Folder
    supervisor: Supervisor
    notes: list[str]  # what a person should know about how it came up
    _lock: int

    @property
    def state(self) -> State:
        return self.supervisor.state

    def close(self, *, force: bool = False) -> None:
        self.supervisor.close(force=force)
        self.folder.clear_state()
        os.close(self._lock)


def launch(folder: Folder, options: Options, *, kind: str, report: Report, start_timeout_s: float) -> Cluster:
    """Start coordinator, nodes, repairers and gateways, and wait until all are ready.

    Raises InvalidRequest (flags that contradict the folder), Conflict (it runs already) or StartFailed;
    then nothing is left running."""
    folder.create()
    lock = folder.lock()
    if lock is None:
        state = folder.read_state()
        owner = f" (pid {state.pid})" if state else ""
        raise Conflict(
            f"a cluster already runs on {folder.path}{owner}; look at it with: objstore status --data {folder.path}, "
            f"end it with: objstore down --data {folder.path}, or start another with --data ELSEWHERE"
        )
    try:
        shape = settle_shape(folder, options)
        config = _settle_config(folder, shape, kind, options.capacity)
        notes = [f"killed a stray process of an earlier run: {name}" for name in end_leftovers(folder)]
    except InvalidRequest:
        os.close(lock)
        raise
    commands.discard_all(folder)
    keys = config.gateway.keys[0]
    state = State(
        kind=kind,
        pid=os.getpid(),
        ticks=process_ticks(os.getpid()),
        shape=shape,
        region=REGION,
        cluster_secret=config.cluster.secret,
        access_key=keys.access_key,
        secret_key=keys.secret_key,
    )
    supervisor = Supervisor(folder, state, report=report, start_timeout_s=start_timeout_s)
    cluster = Cluster(folder, supervisor, notes, lock)
    try:
        _start(cluster, shape, options)
    except BaseException:  # also Ctrl-C: nothing may be left running
        cluster.close(force=True)
        raise
    notes += _shape_notes(shape)
    return cluster


def _start(cluster: Cluster, shape: Shape, options: Options) -> None:
    supervisor, state = cluster.supervisor, cluster.state
    supervisor.share(options.environment)
    known = _known_cluster(cluster.folder, shape)
    supervisor.start_all([Member("c1", "coordinator", environment=known)])
    state.coordinator = next(m.address for m in state.members if m.role == "coordinator")
    supervisor.share({
        "OBJSTORE_GATEWAY__STOP_NOTICE_S": "0",  # no balancer in front
        "OBJSTORE_COORDINATOR__ADDRESS": state.coordinator,
        "OBJSTORE_REPAIR__HEARTBEAT_S": str(options.heartbeat_s),
        "OBJSTORE_REPAIR__DOWN_AFTER_S": str(options.down_after_s),
        "OBJSTORE_REPAIR__OUT_AFTER_S": str(options.out_after_s),
        **options.environment,
    })  # fmt: skip
    # Nodes first: one that reads a large index for longer than `out_after_s` is not lost.
    supervisor.start_all([node_member(extra) for extra in nodes_of(shape)])
    members = [Member(f"r{i}", "repairer") for i in range(1, shape.repairers + 1)]
    port = shape.port
    for i in range(1, shape.gateways + 1):
        if shape.port:
            wanted, port = port, free_port(port)
            if port != wanted and i == 1:
                cluster.notes.append(f"port {wanted} is busy: the gateway listens on {port} instead, next time too")
        members.append(Member(f"g{i}", "gateway", listen=f"{HOST}:{port}"))
        port += 1 if shape.port else 0
    supervisor.start_all(members)
    state.endpoints = [f"http://{m.address}" for m in state.members if m.role == "gateway"]
    first = next(m.address for m in state.members if m.role == "gateway")
    state.shape = msgspec.structs.replace(shape, port=int(first.rpartition(":")[2]))  # clients were told this one
    cluster.folder.write_shape(state.shape)
    state.phase = "ready"
    cluster.folder.write_state(state)


def nodes_of(shape: Shape) -> list[ExtraNode]:
    """Those of the first start and those added since, without those that were retired."""
    first = [ExtraNode(f"n{i}", f"z{(i - 1) % shape.zones + 1}") for i in range(1, shape.nodes + 1)]
    added = {extra.name: extra for extra in shape.extras}
    kept = [node for node in first if node.name not in added]
    return [node for node in (*kept, *shape.extras) if node.name not in shape.retired]


def node_member(node: ExtraNode) -> Member:
    environment = {"OBJSTORE_NODE__ZONE": node.zone}
    if node.capacity:
        environment["OBJSTORE_NODE__CAPACITY"] = node.capacity
    return Member(node.name, "node", environment=environment)


def _known_cluster(folder: Folder, shape: Shape) -> dict[str, str]:
    """Which cluster the nodes belong to: for a coordinator whose own folder was lost."""
    for node in nodes_of(shape):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode((folder.data_of(node.name) / "identity.json").read_bytes(), type=_Identity)
            return {"OBJSTORE_COORDINATOR__CLUSTER_ID": found.cluster_id}
    return {}


def settle_shape(folder: Folder, options: Options) -> Shape:
    """That of the folder, if the flags do not contradict it; else a new one, checked. `launch` keeps it."""
    flags = {"port": options.port, "gateways": options.gateways, "repairers": options.repairers}
    changes = {name: value for name, value in flags.items() if value is not None}
    _check_capacity(folder, options.capacity)
    kept = folder.read_shape()
    if kept is not None:
        asked = {"--nodes": options.nodes, "--ec": options.code, "--zones": options.zones}
        for flag, has in (("--nodes", kept.nodes), ("--ec", kept.code), ("--zones", kept.zones)):
            if asked[flag] is not None and asked[flag] != has:
                raise InvalidRequest(
                    f"{flag} {asked[flag]} contradicts the cluster in {folder.path}, which has {kept.nodes} nodes in "
                    f"{kept.zones} zones and EC {kept.code}; leave {flag} away to start that one, or give another "
                    "--data for a new one"
                )
        return msgspec.structs.replace(kept, **changes)
    code = ErasureCode.parse(options.code or "4+2")
    nodes = options.nodes if options.nodes is not None else max(8, code.nodes_min + 1)
    zones = options.zones if options.zones is not None else nodes
    if not code.nodes_min <= nodes <= NODES_MAX:
        raise InvalidRequest(
            f"EC {code} needs {code.nodes_min} to {NODES_MAX} nodes here ({code.shards} for the shards of an object, "
            f"{code.replicas} for its metadata), not {nodes}; give --nodes {code.nodes_min + 1} or a smaller --ec"
        )
    if not 1 <= zones <= nodes:
        raise InvalidRequest(f"--zones {zones}: need 1 to {nodes}, as there are {nodes} nodes")
    return msgspec.structs.replace(Shape(nodes, str(code), zones), **changes)


def _check_capacity(folder: Folder, capacity: int | None) -> None:
    if capacity is None:
        return
    if folder.config.exists():
        raise InvalidRequest(
            f"--capacity is for a new cluster, and there is one in {folder.path}: leave it away to start that one; "
            f"its nodes have what {folder.config} says under [node] capacity, which is yours to edit"
        )
    if capacity < CAPACITY_MIN:
        raise InvalidRequest(f"--capacity {capacity}: a node needs {CAPACITY_MIN >> 20}MiB or more")


def _shape_notes(shape: Shape) -> list[str]:
    code = ErasureCode.parse(shape.code)
    if shape.nodes > code.nodes_min:
        return []
    return [
        f"EC {code} on {shape.nodes} nodes has no spare one: after a loss all data stay readable, but cannot be "
        f"rebuilt until the node is back; with --nodes {code.nodes_min + 1} or more they can"
    ]


# --- configuration and keys ---------------------------------------------------------------------------------


class _Keys(msgspec.Struct):
    access_key: str
    secret_key: str


class _Gateway(msgspec.Struct):
    keys: list[_Keys]


class _Cluster(msgspec.Struct):
    secret: str


class _Identity(msgspec.Struct):
    """The part of a node's identity.json that is needed here."""

    cluster_id: str


class _Config(msgspec.Struct):
    """The part of cluster.toml that clients need; the whole of it is objstore.config's business."""

    cluster: _Cluster
    gateway: _Gateway


_TEMPLATE = """\
# A cluster on one machine, made by objstore. Yours to edit; read at the next start.
# Addresses, zones and repair times are given to each process by its supervisor.

[cluster]
name = "{name}"
code = "{code}"
secret = "{secret}"
initial_nodes = {nodes}

[node]
capacity = {capacity}  # bytes: each node's share of the disk that they all are on
reserve = {reserve}  # bytes left free, so that deletes always work

[gateway]
region = "{region}"

[encryption]
keys_file = "{encryption_keys}"  # whoever loses it loses what was encrypted

[[gateway.keys]]
access_key = "{access_key}"
secret_key = "{secret_key}"
"""


def _settle_config(folder: Folder, shape: Shape, kind: str, capacity: int | None) -> _Config:
    """The configuration of the cluster in the folder; a new cluster gets one with fresh random keys."""
    if not folder.config.exists():
        if not folder.encryption_keys.exists():
            write_private(folder.encryption_keys, f"{show_key('first', secrets.token_bytes(32))}\n".encode())
        if capacity is None:
            capacity = shutil.disk_usage(folder.path).total // shape.nodes
        text = _TEMPLATE.format(
            name={"up": "local"}.get(kind, kind),
            code=shape.code,
            secret=secrets.token_hex(32),
            nodes=shape.nodes,
            capacity=capacity,
            reserve=min(RESERVE_MAX, capacity // RESERVE_PART),
            region=REGION,
            encryption_keys=folder.encryption_keys.name,
            access_key="OS" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(18)),
            secret_key=secrets.token_urlsafe(30),
        )
        write_private(folder.config, text.encode())
    folder.write_shape(shape)  # last: a start cut short before this is simply a first start again
    import tomllib  # 12 ms that `objstore status` does not pay

    try:
        config = msgspec.convert(tomllib.loads(folder.config.read_text()), type=_Config)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{folder.config}: {error}") from None
    if not config.gateway.keys:
        raise ConfigError(f"{folder.config} has no [[gateway.keys]]: clients could not sign in; add one")
    return config


def free_port(wanted: int) -> int:
    """`wanted`, or the next port above it that nobody listens on."""
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise InvalidRequest(f"ports {wanted} to {wanted + _PORTS_TRIED - 1} are all busy; give another --port")


def ignore(member: MemberState, text: str) -> None:
    """A `Report` for callers that ask instead of listening."""

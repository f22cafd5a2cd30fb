"""Every node of a cluster with what it is, as a table or as JSON."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from statistics import median
from typing import Literal

import msgspec

from objstore.admin import figures
from objstore.cli.planview import table
from objstore.cluster.topology import Outlook
from objstore.model.cluster import Node, NodeLease
from objstore.model.errors import ObjstoreError
from objstore.model.ids import NodeId
from objstore.rpc.client import TcpTransport
from objstore.wire.messages import Ping

PING_TIMEOUT_S = 1.0
WEIGHT_SLACK = 0.05  # by which the weight of a node for its capacity may differ from that of the others unsaid

NodeState = Literal["up", "late", "down", "out", "draining", "drained", "gone", "spare"]
"""up: has a share and answers. late: has a lease, but does not answer in time. down: no lease. out: given up, its share
is rebuilt elsewhere. draining: has no share any more, but still holds what is needed. drained: holds nothing that is.
gone: has no share any more and does not run. spare: runs, but is no member."""


class NodeRow(msgspec.Struct, frozen=True):
    name: str
    id: str
    state: NodeState
    zone: str
    capacity_bytes: int  # as the node says, if it runs
    weight_bytes: int | None  # by what capacity its share was computed; None: it has none
    used_bytes: int | None  # None: it does not answer
    share: float  # of all data slots
    fragments: int | None  # None: not known
    left: int | None  # fragments that must leave a draining node; None: not known, or it is none
    missing: int | None
    address: str


async def answering(transport: TcpTransport, seen: Outlook) -> set[NodeId]:
    """Nodes that answer now, whatever their leases say."""

    async def one(lease: NodeLease) -> NodeId | None:
        try:
            await transport.call(lease.address, Ping(), timeout_s=PING_TIMEOUT_S)
        except (ObjstoreError, OSError):
            return None
        return lease.id

    found = await asyncio.gather(*(one(lease) for lease in seen.leases.values()))
    return {node for node in found if node is not None}


def list_nodes(seen: Outlook, alive: Collection[NodeId]) -> list[NodeRow]:
    layout = seen.map.newest.layout
    slots = Counter(layout.nodes[node] for row in layout.data for node in row)
    total = max(1, slots.total())
    known = {node.id for node in seen.map.nodes}
    spares = [lease for lease in seen.leases.values() if lease.id not in known]
    nodes = [*seen.map.nodes, *(Node(one.id, one.name, one.zone, one.capacity_bytes) for one in spares)]
    rows = []
    for node in sorted(nodes, key=lambda node: (len(node.name), node.name, node.id)):
        lease = seen.leases.get(node.id)
        held = seen.survey.nodes.get(node.id) if seen.survey is not None else None
        state = _state(seen, node.id, lease, alive)
        rows.append(
            NodeRow(
                name=node.name,
                id=node.id,
                state=state,
                zone=node.zone,
                capacity_bytes=lease.capacity_bytes if lease is not None else node.capacity_bytes,
                weight_bytes=node.capacity_bytes if slots[node.id] else None,
                used_bytes=lease.held_bytes if lease is not None else None,
                share=slots[node.id] / total,
                fragments=held.fragments if held is not None and node.id in alive else None,
                left=held.needed
                if held is not None and state in ("draining", "drained") and held.needed >= 0
                else None,
                missing=held.missing if held is not None else None,
                address=lease.address if lease is not None else "",
            )
        )
    return rows


def _state(seen: Outlook, node: NodeId, lease: NodeLease | None, alive: Collection[NodeId]) -> NodeState:
    if all(node != member.id for member in seen.map.nodes):
        return "spare"
    if node not in seen.map.newest.layout.nodes:
        if node not in alive:
            return "gone"
        held = seen.survey.nodes.get(node) if seen.survey is not None else None
        current = seen.survey is not None and seen.survey.epoch == seen.map.current.epoch and seen.map.next is None
        return "drained" if current and held is not None and held.needed == 0 else "draining"
    if node in seen.map.newest.out:
        return "out"
    if lease is None:
        return "down"
    return "up" if node in alive else "late"


def describe_nodes(rows: list[NodeRow]) -> list[str]:
    cells = [("node", "state", "zone", "capacity", "used", "share", "fragments")]
    for row in rows:
        state = f"draining, {row.left} left" if row.state == "draining" and row.left is not None else row.state
        cells.append(
            (
                row.name,
                state,
                row.zone,
                figures.size(row.capacity_bytes),
                figures.size(row.used_bytes) if row.used_bytes is not None else "-",
                f"{row.share:.2%}" if row.share else "-",
                figures.count(row.fragments) if row.fragments is not None else "-",
            )
        )
    lines = table(cells, left=3)
    ratios = [row.weight_bytes / row.capacity_bytes for row in rows if row.weight_bytes and row.capacity_bytes]
    usual = median(ratios) if ratios else 1.0  # weights are relative: all disks may have grown alike
    hints = [_hint(row) or _resized(row, usual) for row in rows]
    return lines + [hint for hint in hints if hint]


def _hint(row: NodeRow) -> str:
    match row.state:
        case "spare":
            return f"{row.name} has no share yet: objstore node add {row.name}"
        case "drained":
            return f"{row.name} is empty: objstore node remove {row.name}"
        case "gone":
            return f"{row.name} does not run and has no share: objstore node remove {row.name}"
        case "out":
            return f"{row.name} was given up; gone for good? objstore node replace {row.name} NEW, or node remove"
        case _:
            return ""


def _resized(row: NodeRow, usual: float) -> str:
    """Of a node whose disk is another one, or was given another part of it, since its share was computed."""
    fair = round(row.capacity_bytes * usual)
    if row.weight_bytes is None or abs(row.weight_bytes - fair) <= WEIGHT_SLACK * fair:
        return ""
    return (
        f"{row.name} has the share of a node with {figures.size(row.weight_bytes / usual)}, and not with "
        f"{figures.size(row.capacity_bytes)}: objstore node resize {row.name} {fair}"
    )

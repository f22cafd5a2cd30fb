"""`objstore placement simulate`: how evenly data would lie, and what a change would move, against the least that must.

By the same code that a real cluster uses, without one. A cluster of any size is described by flags; with --config or
--data it is the one that runs there.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

import msgspec

from objstore.admin import figures
from objstore.cli.connect import add_cluster_flags, connected
from objstore.cli.placementview import Simulation, compare, draw
from objstore.cluster import topology
from objstore.config.kinds import parse_size
from objstore.model.cluster import ErasureCode, Layout, Node
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.limits import PARTITION_BITS, PARTITION_BITS_MAX
from objstore.placement.layout import compute_layout

NODES_MAX = 4096


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("simulate", help="balance and movement for a change, as a table and a picture")
    one.add_argument("--nodes", type=int, metavar="N", help="a cluster of N nodes (default: the one that runs)")
    one.add_argument("--zones", type=int, default=0, metavar="Z", help="... spread over Z zones (default: one each)")
    one.add_argument(
        "--capacity", default="1TiB", metavar="SIZE[,SIZE]", help="... of these sizes, in turn (%(default)s)"
    )
    one.add_argument("--ec", default="4+2", metavar="K+M", help="erasure code (%(default)s)")
    one.add_argument("--bits", type=int, default=None, metavar="P", help=f"2^P partitions ({PARTITION_BITS})")
    one.add_argument("--add", type=int, default=0, metavar="K", help="then K nodes are added")
    one.add_argument("--add-capacity", metavar="SIZE[,SIZE]", help="... of these sizes (default: as --capacity)")
    one.add_argument("--remove", default="", metavar="K|NAME,..", help="then K nodes, or these, are drained")
    one.add_argument("--replace", default="", metavar="NAME,..", help="then each of these is replaced by a new node")
    one.add_argument("--resize", default="", metavar="NAME=SIZE,..", help="then these get another capacity")
    one.add_argument("--json", action="store_true", help="the numbers as JSON")
    add_cluster_flags(one)


def run(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    nodes, code, bits, layout = _described(arguments) if arguments.nodes else asyncio.run(_running(arguments))
    if layout is None:
        layout = compute_layout(nodes, code, bits)
    heirs: dict[NodeId, NodeId] = {}
    after = _changed(nodes, arguments, heirs)
    previous = msgspec.structs.replace(layout, nodes=tuple(heirs.get(node, node) for node in layout.nodes))
    to = layout if after == nodes else compute_layout(after, code, bits, previous)
    found = compare(nodes, layout, after, to, str(code), time.monotonic() - began)
    if arguments.json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(_summary(found)))
        print()
        print("\n".join(draw(found)))
    return 0


def _described(arguments: argparse.Namespace) -> tuple[list[Node], ErasureCode, int, Layout | None]:
    if arguments.config or arguments.data:
        raise InvalidRequest("give --nodes (an imagined cluster), or --config or --data (one that runs), not both")
    code = ErasureCode.parse(arguments.ec)
    bits = PARTITION_BITS if arguments.bits is None else arguments.bits
    if not 0 <= bits <= PARTITION_BITS_MAX:
        raise InvalidRequest(f"--bits {bits}: need 0 to {PARTITION_BITS_MAX}")
    if not code.nodes_min <= arguments.nodes <= NODES_MAX:
        raise InvalidRequest(
            f"--nodes {arguments.nodes}: EC {code} needs {code.nodes_min} or more, {NODES_MAX} at most"
        )
    zones = arguments.zones or arguments.nodes
    if not 1 <= zones <= arguments.nodes:
        raise InvalidRequest(f"--zones {zones}: need 1 to {arguments.nodes}")
    return _nodes(range(1, arguments.nodes + 1), zones, _sizes(arguments.capacity)), code, bits, None


async def _running(arguments: argparse.Namespace) -> tuple[list[Node], ErasureCode, int, Layout | None]:
    async with connected(arguments) as access:
        seen = await topology.look(access.coordinator)
    layout = seen.map.newest.layout
    nodes = [node for node in seen.map.nodes if node.id in set(layout.nodes)]
    return nodes, seen.map.code, seen.map.partition_bits, layout


def _nodes(numbers: Sequence[int], zones: int, sizes: Sequence[int]) -> list[Node]:
    return [Node(NodeId(f"{i:016x}"), f"n{i}", f"z{(i - 1) % zones + 1}", sizes[(i - 1) % len(sizes)]) for i in numbers]


def _sizes(text: str) -> list[int]:
    try:
        sizes = [parse_size(one) for one in text.split(",")]
    except ValueError:
        raise InvalidRequest(f"{text!r}: give sizes like 500GiB or 2TB, with commas between them") from None
    if min(sizes) <= 0:
        raise InvalidRequest(f"{text!r}: a capacity must be above 0")
    return sizes


# --- the change ------------------------------------------------------------------------------------------------


def _changed(nodes: list[Node], arguments: argparse.Namespace, heirs: dict[NodeId, NodeId]) -> list[Node]:
    """`heirs` gets who takes whose slots."""
    after = {node.name: node for node in nodes}
    for name in _leaving(nodes, arguments.remove):
        del after[_known(after, name).name]
    highest = max(int(node.name[1:]) if node.name[1:].isdigit() else 0 for node in nodes) + 1
    for name in filter(None, arguments.replace.split(",")):
        old = after.pop(_known(after, name).name)
        new = Node(NodeId(f"{highest:016x}"), f"n{highest}", old.zone, old.capacity_bytes)
        after[new.name] = new
        heirs[old.id] = new.id
        highest += 1
    for one in filter(None, arguments.resize.split(",")):
        name, _, size = one.partition("=")
        after[name] = msgspec.structs.replace(_known(after, name), capacity_bytes=_sizes(size)[0])
    if arguments.add < 0 or len(after) + arguments.add > NODES_MAX:
        raise InvalidRequest(f"--add {arguments.add}: need 0 or more, and {NODES_MAX} nodes at most in all")
    sizes = _sizes(arguments.add_capacity or arguments.capacity)
    if not arguments.nodes and not arguments.add_capacity:
        sizes = [node.capacity_bytes for node in nodes]
    zones = len({node.zone for node in nodes})
    zones = highest + arguments.add if zones == len(nodes) else zones
    added = _nodes(range(highest, highest + arguments.add), zones, sizes)
    return [*after.values(), *added]


def _leaving(nodes: list[Node], text: str) -> list[str]:
    if text.isdigit():
        if int(text) >= len(nodes):
            raise InvalidRequest(f"--remove {text}: there are only {len(nodes)} nodes")
        return [node.name for node in nodes[len(nodes) - int(text) :]]
    return [name for name in text.split(",") if name]


def _known(nodes: dict[str, Node], name: str) -> Node:
    if name not in nodes:
        raise InvalidRequest(f"there is no node {name!r}; there are {', '.join(list(nodes)[:8])} ...")
    return nodes[name]


def _summary(found: Simulation) -> list[str]:
    before, after = found.before, found.after
    change = "nothing changes" if found.slots_min == found.slots_moved == 0 else f"-> {after.nodes} nodes"
    return [
        f"{before.nodes} nodes in {before.zones} {'zone' if before.zones == 1 else 'zones'}, EC {found.code}, "
        f"{found.partitions:,} partitions {change}    (computed in {figures.duration(found.seconds)})",
        "",
        f"  balance   fullest {before.fullest:.4f} -> {after.fullest:.4f}, emptiest {before.emptiest:.4f} -> "
        f"{after.emptiest:.4f} of the fair share by capacity",
        f"  moved     {found.slots_moved:,} of {found.slots:,} slots, {found.slots_moved / found.slots:.2%}",
        f"  at least  {found.slots_min:,} slots, {found.slots_min / found.slots:.2%}: ratio {found.ratio:.4f}",
        f"  metadata  {found.metadata_moved:.2%} of the replicas move",
        f"  zones     at most {after.zone_worst} shards of an object in one zone (best possible: {after.zone_limit})",
    ]

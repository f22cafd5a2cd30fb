"""A simulated change of the layout in numbers and as a picture of text. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from objstore.cli.planview import table
from objstore.model.cluster import Layout, Node
from objstore.model.ids import NodeId
from objstore.placement.layout import moved, quality
from objstore.placement.preview import moves_min

BARS_MAX = 40  # nodes with a bar each; more are shown as a histogram
BAR_WIDTH = 40
BINS = 15


class Side(msgspec.Struct, frozen=True):
    """Before, or after."""

    nodes: int
    zones: int
    fullest: float  # 1.0 = exactly the share by capacity
    emptiest: float
    zone_worst: int
    zone_limit: int


class Load(msgspec.Struct, frozen=True):
    name: str
    zone: str
    capacity_bytes: int
    share_before: float  # of all slots
    share_after: float
    load_after: float  # share / fair share by capacity; 0 when it has none
    gained: int  # slots
    lost: int


class Simulation(msgspec.Struct, frozen=True):
    code: str
    partitions: int
    slots: int
    slots_moved: int
    slots_min: int
    ratio: float
    metadata_moved: float
    before: Side
    after: Side
    nodes: list[Load]
    seconds: float
    format: int = 1


def compare(
    nodes: Sequence[Node], layout: Layout, after: Sequence[Node], to: Layout, code: str, seconds: float
) -> Simulation:
    moves = moved(layout, to)
    least = moves_min(layout, to, after)
    return Simulation(
        code=code,
        partitions=len(to.data),
        slots=moves.data_slots,
        slots_moved=moves.data,
        slots_min=least,
        ratio=round(moves.data / least, 4) if least else 1.0,
        metadata_moved=moves.meta / moves.meta_slots,
        before=_side(layout, nodes),
        after=_side(to, after),
        nodes=_loads(nodes, layout, after, to),
        seconds=round(seconds, 3),
    )


def _side(layout: Layout, nodes: Sequence[Node]) -> Side:
    found = quality(layout, nodes).data
    return Side(
        len(nodes),
        len({node.zone for node in nodes}),
        round(found.fullest, 5),
        round(found.emptiest, 5),
        found.zone_worst,
        found.zone_limit,
    )


def _loads(nodes: Sequence[Node], layout: Layout, after: Sequence[Node], to: Layout) -> list[Load]:
    before_slots, after_slots = _held(layout), _held(to)
    moves = moved(layout, to)
    capacity = {node.id: node.capacity_bytes for node in after}
    total = sum(capacity.values())
    everyone = {**{node.id: node for node in nodes}, **{node.id: node for node in after}}
    slots = moves.data_slots
    return [
        Load(
            node.name,
            node.zone,
            node.capacity_bytes,
            before_slots[id] / slots,
            after_slots[id] / slots,
            after_slots[id] / slots * total / capacity[id] if id in capacity else 0.0,
            moves.data_gained.get(id, 0),
            moves.data_lost.get(id, 0),
        )
        for id, node in everyone.items()
    ]


def _held(layout: Layout) -> Counter[NodeId]:
    counted = Counter(node for row in layout.data for node in row)
    return Counter({layout.nodes[node]: count for node, count in counted.items()})


# --- the picture -----------------------------------------------------------------------------------------------


def draw(found: Simulation) -> list[str]:
    return _bars(found) if len(found.nodes) <= BARS_MAX else [*_histogram(found), "", *_extremes(found)]


def _bars(found: Simulation) -> list[str]:
    """Full block: held before and after. Shaded: what comes. Dots: what goes."""
    scale = max(max(node.share_before, node.share_after) for node in found.nodes)
    rows: list[tuple[str, ...]] = [("node", "zone", "", "share", "of fair", "gets", "gives")]
    for node in found.nodes:
        kept, high = sorted((_cells(node.share_before, scale), _cells(node.share_after, scale)))
        rest = "▒" if node.share_after > node.share_before else "·"
        rows.append(
            (
                node.name,
                node.zone,
                "█" * kept + rest * (high - kept),
                f"{node.share_after:.2%}",
                f"{node.load_after:.3f}" if node.load_after else "-",
                f"{node.gained:,}" if node.gained else "-",
                f"{node.lost:,}" if node.lost else "-",
            )
        )
    return [*table(rows, left=3), "  █ stays   ▒ comes   · goes"]


def _cells(share: float, scale: float) -> int:
    return round(BAR_WIDTH * share / scale)


def _histogram(found: Simulation) -> list[str]:
    """How many nodes are how full, relative to their fair share."""
    loads = [node.load_after for node in found.nodes if node.load_after]
    low, high = min(loads), max(loads)
    width = max(high - low, 1e-9) / BINS
    counted = Counter(min(BINS - 1, int((load - low) / width)) for load in loads)
    most = max(counted.values())
    lines = ["  load of the nodes after the change (1.0 = exactly the share by capacity)"]
    if high - low < 1e-9:
        return [*lines, f"  {low:.4f}  {'█' * BAR_WIDTH} all {len(loads):,}"]
    for bin in range(BINS):
        bar = "█" * round(BAR_WIDTH * counted[bin] / most) or ("▏" if counted[bin] else "")
        lines.append(f"  {low + (bin + 0.5) * width:.4f}  {bar} {counted[bin] or ''}".rstrip())
    return lines


def _extremes(found: Simulation) -> list[str]:
    """The nodes that matter: the fullest, and those that give or get most."""
    placed = [node for node in found.nodes if node.load_after]
    fullest = sorted(placed, key=lambda node: -node.load_after)[:3]
    movers = sorted(found.nodes, key=lambda node: -(node.gained + node.lost))[:5]
    rows: list[tuple[str, ...]] = [("", "node", "zone", "share", "of fair", "gets", "gives")]
    for label, nodes in (("fullest", fullest), ("moves most", [node for node in movers if node.gained or node.lost])):
        for node in nodes:
            rows.append(
                (
                    label,
                    node.name,
                    node.zone,
                    f"{node.share_after:.3%}",
                    f"{node.load_after:.4f}" if node.load_after else "-",
                    f"{node.gained:,}" if node.gained else "-",
                    f"{node.lost:,}" if node.lost else "-",
                )
            )
            label = ""
    return table(rows, left=3)

"""Placement the obvious way: floats, bisection and greedy loops. Slow, but each line can be checked by eye."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from objstore.model.cluster import Layout, Node
from objstore.model.ids import NodeId

Rows = list[list[str]]


def node(number: int, capacity: int = 1000, zone: str = "z0") -> Node:
    return Node(NodeId(f"{number:016x}"), f"n{number}", zone, capacity)


def named(layout: Layout, table: Sequence[Sequence[int]]) -> Rows:
    return [[layout.nodes[i] for i in row] for row in table]


def counts(rows: Rows, nodes: Sequence[Node]) -> dict[str, int]:
    tally = Counter(owner for row in rows for owner in row)
    return {n.id: tally[n.id] for n in nodes}


def zone_aim(nodes: Sequence[Node], width: int) -> int | None:
    """Most nodes of one zone per row; None where the zones are too few or too small for it."""
    sizes = Counter(n.zone for n in nodes)
    aim = math.ceil(width / len(sizes))
    return aim if sum(min(aim, size) for size in sizes.values()) >= width else None


def fair(nodes: Sequence[Node], rows: int, width: int) -> dict[str, float]:
    """Capacity's proportion, bent by: no node more than all rows, no zone more than its aim (where it has one)."""
    aim = zone_aim(nodes, width)
    most = math.inf if aim is None else rows * aim
    by_zone: dict[str, list[Node]] = {}
    for n in nodes:
        by_zone.setdefault(n.zone, []).append(n)

    def level(zone: list[Node], rate: float) -> float:
        return sum(min(rows, rate * n.capacity_bytes) for n in zone)

    rate = _bisect(lambda r: sum(min(most, level(zone, r)) for zone in by_zone.values()), rows * width, rows)
    result: dict[str, float] = {}
    for zone in by_zone.values():
        own = rate if level(zone, rate) <= most else _bisect(partial(level, zone), most, rows)
        result |= {n.id: min(rows, own * n.capacity_bytes) for n in zone}
    return result


def _bisect(rising: Callable[[float], float], goal: float, high: float) -> float:
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < goal else (low, middle)
    return high


def greedy(nodes: Sequence[Node], rows: int, width: int, previous: Rows | None = None) -> Rows:
    """Min-move table without slots: keep old holders, fill from the relatively emptiest, then level one by one."""
    table = [[owner for owner in row if any(owner == n.id for n in nodes)] for row in previous or [[]] * rows]
    weight = {n.id: n.capacity_bytes for n in nodes}
    load = Counter(owner for row in table for owner in row)
    for row in table:
        while len(row) < width:
            best = min((n for n in weight if n not in row), key=lambda n: (load[n] / weight[n], n))
            row.append(best)
            load[best] += 1
    while True:
        order = sorted(weight, key=lambda n: (load[n] / weight[n], n))
        low, high = order[0], order[-1]
        movable = [row for row in table if high in row and low not in row]
        if not movable or load[high] / weight[high] <= (load[low] + 1) / weight[low]:
            return table
        row = movable[0]
        row[row.index(high)] = low
        load[high] -= 1
        load[low] += 1


def moves_min(old: Rows, nodes: Sequence[Node], width: int) -> int:
    """No table of these shares is reached with fewer: what a node lacks must come to it, what has no node must go."""
    held = counts(old, nodes)
    lacking = sum(max(0, math.floor(share + 1e-6) - held[n]) for n, share in fair(nodes, len(old), width).items())
    return max(lacking, len(old) * width - sum(held.values()))


def changed(old: Rows, new: Rows) -> int:
    return sum(a != b for x, y in zip(old, new, strict=True) for a, b in zip(x, y, strict=True))

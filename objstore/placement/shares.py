"""How many rows of a table each node should hold: in proportion to its capacity, within what rows and zones allow.

Two limits bend the proportion. A row has no node twice, so no node holds more than every row; and no row has more
nodes of one zone than that zone's limit. What a limit cuts off is shared by the others, again in proportion.
Exact arithmetic (integers and fractions), so that everyone computes the same table everywhere.

Zone limits. The aim is ceil(width / zones) per row, and it comes before balance: a small zone may have to hold
more than its proportion. Where the zones are too few or too small for that, no limit could protect against the loss
of a zone anyway; then balance decides and each zone takes its proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor


@dataclass(frozen=True, slots=True)
class Shares:
    """Nodes and zones are indexes."""

    zone_of: tuple[int, ...]  # per node
    zone_limits: tuple[int, ...]  # per zone: most nodes of it in one row
    fair: tuple[Fraction, ...]  # per node: rows it should hold


def fair_shares(weights: Sequence[int], zones: Sequence[int], rows: int, width: int) -> Shares:
    """`zones`: the zone of each node, numbered from 0 without gaps. Needs at least `width` nodes."""
    members: list[list[int]] = [[] for _ in range(max(zones) + 1)]
    for node, zone in enumerate(zones):
        members[zone].append(node)
    aim = zone_limit(width, len(members))
    limits = [min(aim, len(zone)) for zone in members]
    if sum(limits) < width:
        free = _fill(weights, rows, rows * width)
        limits = [max(limits[z], ceil(sum(free[n] for n in zone) / rows)) for z, zone in enumerate(members)]
    fair = _fill_zones(weights, members, [rows * limit for limit in limits], rows, width)
    return Shares(tuple(zones), tuple(limits), tuple(fair))


def zone_limit(width: int, zones: int) -> int:
    """The most nodes of one zone that a row should have."""
    return -(-width // zones)


def _fill(weights: Sequence[int], most: int, total: int) -> list[Fraction]:
    """`total` divided in proportion to the weights, except that nobody gets more than `most`."""
    shares = [Fraction(most)] * len(weights)
    unfilled = list(range(len(weights)))
    while unfilled:
        weight = sum(weights[i] for i in unfilled)
        rest = [i for i in unfilled if weights[i] * total < most * weight]
        if len(rest) == len(unfilled):
            for i in unfilled:
                shares[i] = Fraction(weights[i] * total, weight)
            break
        total -= most * (len(unfilled) - len(rest))
        unfilled = rest
    return shares


def _fill_zones(
    weights: Sequence[int], members: Sequence[Sequence[int]], most: Sequence[int], rows: int, width: int
) -> list[Fraction]:
    """As `_fill` with `rows` per node, and besides no zone gets more than its `most`."""
    shares = [Fraction(0)] * len(weights)
    total = rows * width
    unfilled = list(range(len(members)))
    while unfilled:
        nodes = [n for z in unfilled for n in members[z]]
        for n, share in zip(nodes, _fill([weights[n] for n in nodes], rows, total), strict=True):
            shares[n] = share
        filled = [z for z in unfilled if sum(shares[n] for n in members[z]) > most[z]]
        if not filled:
            break
        for z in filled:
            for n, share in zip(members[z], _fill([weights[n] for n in members[z]], rows, most[z]), strict=True):
                shares[n] = share
            total -= most[z]
        unfilled = [z for z in unfilled if z not in filled]
    return shares


def targets(shares: Shares, held: Sequence[int]) -> list[int]:
    """Whole numbers of rows, each a fair share rounded down or up: whichever is nearer to what a node holds."""
    members: list[list[int]] = [[] for _ in shares.zone_limits]
    for node, zone in enumerate(shares.zone_of):
        members[zone].append(node)
    zone_fair = [sum((shares.fair[n] for n in nodes), Fraction(0)) for nodes in members]
    zone_totals = _round(zone_fair, [sum(held[n] for n in nodes) for nodes in members], int(sum(zone_fair)))
    result = [0] * len(held)
    for nodes, total in zip(members, zone_totals, strict=True):
        rounded = _round([shares.fair[n] for n in nodes], [held[n] for n in nodes], total)
        for n, target in zip(nodes, rounded, strict=True):
            result[n] = target
    return result


def _round(fair: Sequence[Fraction], held: Sequence[int], total: int) -> list[int]:
    result = [min(max(h, floor(f)), ceil(f)) for f, h in zip(fair, held, strict=True)]
    missing = total - sum(result)
    step = 1 if missing > 0 else -1
    for i in sorted(range(len(fair)), key=lambda i: (step * (result[i] - fair[i]), step * held[i], i)):
        if missing == 0:
            break
        if floor(fair[i]) <= result[i] + step <= ceil(fair[i]):
            result[i] += step
            missing -= step
    assert missing == 0
    return result

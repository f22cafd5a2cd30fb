"""One partition table: rows of distinct nodes, filled anew or adapted to other nodes with the fewest moves.

A fresh table is exact by construction: nodes are dealt to the rows one after the other, each as often as its
target says and zone by zone, which gives no row a node twice (a node has at most as many copies as there are rows)
nor more nodes of a zone than its limit. Random swaps that keep both properties then mix it, so that each node
shares rows with every other and a rebuild reads from all of them.

An adapted table moves a slot only when a node left, has too much, or breaks a zone limit. The newcomer takes the
slot of the node it replaces. Where no single move helps, a chain of moves (a shortest augmenting path, as in maximum
flow) does.

"Random" means drawn from a hash of the inputs: the same inputs give the same table on every machine.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import xxhash

from objstore.placement.shares import Shares, targets

Rows = list[list[int]]

_VACANT = -1


def draws(seed: int) -> Iterator[int]:
    """An endless sequence of 64-bit numbers without pattern, fixed by the seed."""
    digest, number = xxhash.xxh3_64_intdigest, 0
    while True:
        yield digest(number.to_bytes(8, "big"), seed)
        number += 1


def shuffle(items: list[int], draw: Iterator[int]) -> None:
    """Fisher-Yates."""
    for i in range(len(items) - 1, 0, -1):
        j = next(draw) % (i + 1)
        items[i], items[j] = items[j], items[i]


def fresh(shares: Shares, rows: int, seed: int) -> Rows:
    """A table of `rows` rows for nobody's previous one."""
    draw = draws(seed)
    copies = targets(shares, [0] * len(shares.fair))
    order = list(range(len(copies)))
    shuffle(order, draw)
    order.sort(key=lambda node: shares.zone_of[node])
    dealt = [node for node in order for _ in range(copies[node])]
    table = [dealt[row::rows] for row in range(rows)]
    _mix(table, shares, draw)
    return _with_even_slots(table, len(copies), draw)


def _mix(table: Rows, shares: Shares, draw: Iterator[int]) -> None:
    """Swap every slot with a random other one, unless a row would get a node twice or a zone too often."""
    zone_of, limits = shares.zone_of, shares.zone_limits
    rows, width = len(table), len(table[0])
    for left in table:
        for i in range(width):
            number = next(draw)
            right, j = table[number % rows], (number >> 32) % width
            a, b = left[i], right[j]
            if b in left or a in right:
                continue
            if zone_of[a] != zone_of[b] and not (
                _in_zone(left, zone_of, zone_of[b]) < limits[zone_of[b]]
                and _in_zone(right, zone_of, zone_of[a]) < limits[zone_of[a]]
            ):
                continue
            left[i], right[j] = b, a


def _with_even_slots(table: Rows, nodes: int, draw: Iterator[int]) -> Rows:
    """The rows in an order that gives each node every slot about equally often: reads ask the data slots only."""
    width = len(table[0])
    seen = [[0] * nodes for _ in range(width)]
    result = []
    for p, row in enumerate(table):
        shuffle(row, draw)
        ordered = [_VACANT] * width
        for step in range(width):
            slot = (p + step) % width  # each slot has its turn to choose first
            node = min(row, key=seen[slot].__getitem__)
            row.remove(node)
            ordered[slot] = node
            seen[slot][node] += 1
        result.append(ordered)
    return result


def _in_zone(row: Sequence[int], zone_of: Sequence[int], zone: int) -> int:
    return sum(1 for node in row if node != _VACANT and zone_of[node] == zone)


def adapted(previous: Sequence[Sequence[int | None]], shares: Shares, seed: int) -> Rows:
    """The previous table (None where the node is gone) changed as little as the shares allow."""
    table = _Adapting(previous, shares, seed)
    table.fill_vacancies()
    table.move_directly()
    table.move_by_chains()
    return table.rows


class _Adapting:
    """A table in the making. After `fill_vacancies` every row is valid, and every move keeps it so."""

    def __init__(self, previous: Sequence[Sequence[int | None]], shares: Shares, seed: int) -> None:
        self.rows = [[_VACANT if node is None else node for node in row] for row in previous]
        self._shares = shares
        self._draw = draws(seed)
        self._nodes = range(len(shares.fair))
        self._places: list[dict[int, None]] = [{} for _ in self._nodes]  # per node: its rows, as an ordered set
        for p, row in enumerate(self.rows):
            for node in row:
                if node != _VACANT:
                    self._places[node][p] = None
        zones = len(shares.zone_limits)
        self._zone_counts = [[_in_zone(row, shares.zone_of, zone) for zone in range(zones)] for row in self.rows]
        sizes = [shares.zone_of.count(zone) for zone in range(zones)]
        self._limited = [limit < size for limit, size in zip(shares.zone_limits, sizes, strict=True)]
        self._vacate_crowded_zones()
        self._targets = targets(shares, [len(places) for places in self._places])

    def _vacate_crowded_zones(self) -> None:
        """Where a zone limit has fallen: the fullest nodes of the zone leave the row."""
        zone_of, fair = self._shares.zone_of, self._shares.fair
        for zone, limit in enumerate(self._shares.zone_limits):
            if not self._limited[zone]:
                continue
            for p, row in enumerate(self.rows):
                crowd = [node for node in row if node != _VACANT and zone_of[node] == zone]
                if len(crowd) > limit:
                    crowd.sort(key=lambda node: (fair[node] - len(self._places[node]), node))
                    for node in crowd[: len(crowd) - limit]:
                        row[row.index(node)] = _VACANT
                        del self._places[node][p]
                        self._zone_counts[p][zone] -= 1

    def _lacks(self, node: int) -> int:
        return self._targets[node] - len(self._places[node])

    def _admits(self, p: int, leaving: int, zone: int) -> bool:
        """May a node of this zone replace `leaving` in row p, as far as zones go?"""
        if not self._limited[zone] or (leaving != _VACANT and self._shares.zone_of[leaving] == zone):
            return True
        return self._zone_counts[p][zone] < self._shares.zone_limits[zone]

    def _fits(self, p: int, leaving: int, coming: int) -> bool:
        return coming not in self.rows[p] and self._admits(p, leaving, self._shares.zone_of[coming])

    def _replace(self, p: int, leaving: int, coming: int) -> None:
        row = self.rows[p]
        row[row.index(leaving)] = coming
        self._places[coming][p] = None
        self._zone_counts[p][self._shares.zone_of[coming]] += 1
        if leaving != _VACANT:
            del self._places[leaving][p]
            self._zone_counts[p][self._shares.zone_of[leaving]] -= 1

    def fill_vacancies(self) -> None:
        """Each goes to the node that lacks most among those that fit; if none lacks any, to the least overfull."""
        heap = [(-self._lacks(n), next(self._draw), n) for n in self._nodes if self._lacks(n) > 0]
        heapq.heapify(heap)
        vacant = [p for p, row in enumerate(self.rows) for node in row if node == _VACANT]
        shuffle(vacant, self._draw)
        for p in vacant:
            refused = []
            taker = _VACANT
            while heap and taker == _VACANT:
                entry = heapq.heappop(heap)
                if self._fits(p, _VACANT, entry[2]):
                    taker = entry[2]
                else:
                    refused.append(entry)
            if taker == _VACANT:
                fitting = (n for n in self._nodes if self._fits(p, _VACANT, n))
                taker = max(fitting, key=lambda n: (self._lacks(n), -n))
            self._replace(p, _VACANT, taker)
            for entry in refused:
                heapq.heappush(heap, entry)
            if self._lacks(taker) > 0:
                heapq.heappush(heap, (-self._lacks(taker), next(self._draw), taker))

    def move_directly(self) -> None:
        """Nodes that have too many give to those that lack some, taking turns, so that a newcomer reads from all."""
        offers = {n: list(self._places[n]) for n in self._nodes if self._lacks(n) < 0}
        for offered in offers.values():
            shuffle(offered, self._draw)  # rows that follow each other would tie one newcomer to the next
        takers = sorted((n for n in self._nodes if self._lacks(n) > 0), key=lambda n: (-self._lacks(n), n))
        for taker in takers:
            zone = self._shares.zone_of[taker]
            closed = self._is_closed(zone)  # stays so during the turns: nobody of the zone leaves a row for another
            turns = deque(
                (giver, self._gifts(offered, giver, taker))
                for giver, offered in offers.items()
                if self._lacks(giver) < 0 and (not closed or self._shares.zone_of[giver] == zone)
            )
            while turns and self._lacks(taker) > 0:
                giver, gifts = turns.popleft()
                p = next(gifts, None) if self._lacks(giver) < 0 else None
                if p is not None:
                    self._replace(p, giver, taker)
                    turns.append((giver, gifts))

    def _is_closed(self, zone: int) -> bool:
        """Has every row as many nodes of the zone as it may? Then only its own nodes can give to it."""
        limit = self._shares.zone_limits[zone]
        return self._limited[zone] and all(counts[zone] >= limit for counts in self._zone_counts)

    def _gifts(self, offered: Sequence[int], giver: int, taker: int) -> Iterator[int]:
        """Rows in which the taker may replace the giver. Within a limited zone, first those that are full of it:
        there nobody from outside the zone could give instead."""
        zone = self._shares.zone_of[taker]
        first: Iterable[int] = ()
        if self._limited[zone] and self._shares.zone_of[giver] == zone:
            first = (p for p in offered if not self._admits(p, _VACANT, zone))
        for p in itertools.chain(first, offered):
            if p in self._places[giver] and self._fits(p, giver, taker):
                yield p

    def move_by_chains(self) -> None:
        """For what is left: giver to a, a to b, ... to a taker. Ends when no chain helps.

        The links of one chain never get in each other's way, because it is a shortest one: where two share a row,
        the later link stays within a zone (else its end would have been reached from the earlier one's start).
        """
        for giver in self._nodes:
            while self._lacks(giver) < 0 and (chain := self._chain(giver)):
                for p, leaving, coming in chain:
                    assert self._fits(p, leaving, coming)
                    self._replace(p, leaving, coming)

    def _chain(self, giver: int) -> list[tuple[int, int, int]]:
        """A shortest chain of (row, leaving, coming) from the giver to a node that lacks some; [] if there is none."""
        came: dict[int, tuple[int, int, int]] = {}
        unseen: dict[int, list[int]] = {}  # by zone, because a row admits or refuses zones as a whole
        for n in self._nodes:
            if n != giver:
                unseen.setdefault(self._shares.zone_of[n], []).append(n)
        queue = deque([giver])
        while queue and unseen:
            leaving = queue.popleft()
            for p in self._places[leaving]:
                row = self.rows[p]
                for zone in [zone for zone in unseen if self._admits(p, leaving, zone)]:
                    for coming in unseen[zone]:
                        if coming not in row:
                            came[coming] = (p, leaving, coming)
                            queue.append(coming)
                            if self._lacks(coming) > 0:
                                return _trace(came, giver, coming)
                    unseen[zone] = [n for n in unseen[zone] if n not in came]
                    if not unseen[zone]:
                        del unseen[zone]
        return []


def _trace(came: dict[int, tuple[int, int, int]], first: int, last: int) -> list[tuple[int, int, int]]:
    chain = []
    while last != first:
        chain.append(came[last])
        last = came[last][1]
    return chain[::-1]

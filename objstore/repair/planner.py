"""What to do about one segment, and in which order segments come. Pure.

Rules, first to last:

- a shard that no answering node holds is rebuilt at home, or on the first live handoff while home is not live;
- never a second shard of a segment on a node: a wrong one that sits on the home is moved away first, and what
  has no place of its own, also when all moves are done, stays missing (blocked) rather than share a node;
- a shard held elsewhere than at its live home is copied home;
- a second copy goes (trim) only when home has its own, and only if no other shard depends on home alone;
- a node without room takes no shard: what is missing goes to another, what is whole waits where it is.

Shards on a silent node that is not given up yet are not missing work: they wait. When nothing more may be lost they
wait only for a node that has just stopped answering (a restart must not set off a rebuild). A shard that no silent
node can bring back never waits, wherever its home is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from objstore.engine.types import Moved, Placed, Trimmed
from objstore.model.ids import NodeId


class SegmentView(NamedTuple):
    k: int
    home: Sequence[NodeId]  # by shard: where it belongs in the newest view
    holders: Mapping[int, Sequence[NodeId]]  # by shard: answering nodes that hold it
    live: Collection[NodeId]  # answering members
    late: Collection[NodeId] = ()  # members that have only just stopped answering
    held_by_silent: Mapping[int, NodeId] = {}  # shards on a node that is silent but not given up, as far as is known
    returning: Collection[NodeId] = ()  # declared out, yet answering: soon owners again, so nothing is trimmed there
    full: Collection[NodeId] = ()  # members that are moved nothing to
    closed: Collection[NodeId] = ()  # those of them that take no rebuilt shards either


class SegmentPlan(NamedTuple):
    rebuild: tuple[Placed, ...] = ()
    move: tuple[Moved, ...] = ()
    trim: tuple[Trimmed, ...] = ()
    waiting: int = 0  # shards left to a silent node
    blocked: int = 0  # shards without a node to put them on
    no_room: int = 0  # those of them that a node with more room would take, and moves that wait for room
    hopeless: bool = False  # fewer than k shards are readable: nothing can be rebuilt

    @property
    def has_work(self) -> bool:
        return bool(self.rebuild or self.move or self.trim)


def plan_segment(view: SegmentView, handoff: Callable[[], Sequence[NodeId]]) -> SegmentPlan:
    """`handoff()`: the stand-ins of this partition in order; called only when needed."""
    shards = range(len(view.home))
    missing = [shard for shard in shards if not view.holders.get(shard)]
    wanted = _moves(view)
    move = tuple(moved for moved in wanted if moved.target not in view.full)
    no_room = len(wanted) - len(move)
    trim = tuple(_trims(view))
    readable = len(view.home) - len(missing)
    if missing and readable < view.k:
        waiting = sum(_waits(view, shard, urgent=False) for shard in missing)
        return SegmentPlan((), move, trim, waiting, 0, no_room, hopeless=True)
    urgent = readable == view.k
    waiting = 0
    blocked = 0
    rebuild: list[Placed] = []
    taken = {node for nodes in view.holders.values() for node in nodes}
    leaving = {moved.source for moved in move} | {trimmed.extra for trimmed in trim}
    for shard in missing:
        if _waits(view, shard, urgent=urgent):
            waiting += 1
            continue
        target = _place(view, shard, taken, leaving, handoff)
        if target in leaving or (target is None and leaving):
            pass  # a place becomes free when what sits there wrongly, or one copy too many, has gone
        elif target is None:
            blocked += 1
            no_room += any(node in view.closed for node in view.live)
        else:
            taken.add(target)
            rebuild.append(Placed(shard, target))
    return SegmentPlan(tuple(rebuild), move, trim, waiting, blocked, no_room)


def _waits(view: SegmentView, shard: int, *, urgent: bool) -> bool:
    node = view.held_by_silent.get(shard)
    return node is not None and (not urgent or node in view.late)


def _moves(view: SegmentView) -> list[Moved]:
    moves = []
    for shard, home in enumerate(view.home):
        nodes = view.holders.get(shard, ())
        if nodes and home in view.live and home not in nodes:
            moves.append(Moved(shard, nodes[0], home))
    return moves


def _trims(view: SegmentView) -> list[Trimmed]:
    trims: list[Trimmed] = []
    for shard, home in enumerate(view.home):
        nodes = view.holders.get(shard, ())
        if home not in nodes or len(nodes) < 2:
            continue
        crowded = any(other != shard and tuple(held) == (home,) for other, held in view.holders.items())
        if not crowded:
            extra = (node for node in nodes if node != home and node not in view.returning)
            trims.extend(Trimmed(shard, home, node) for node in extra)
    return trims


def _place(
    view: SegmentView,
    shard: int,
    taken: Collection[NodeId],
    leaving: Collection[NodeId],
    handoff: Callable[[], Sequence[NodeId]],
) -> NodeId | None:
    home = view.home[shard]
    able = set(view.live).difference(view.closed)
    if home in able and (home not in taken or home in leaving):
        return home
    reserved = {node for other, node in enumerate(view.home) if not view.holders.get(other) and node in able}
    for node in handoff():
        if node in able and node not in taken and node not in reserved:
            return node
    spare = (node for node in view.home if node in able and node not in taken and node not in reserved)
    return next(spare, None)


class Agenda:
    """Segments that need work: lowest rank (fewest losses survived) first, then the oldest blob.

    A heap with lazy removal: `pop` returns what was pushed last for a segment and drops outdated entries.
    """

    def __init__(self) -> None:
        self._heap: list[bytes] = []
        self._wanted: dict[bytes, int] = {}  # segment -> rank

    def __len__(self) -> int:
        return len(self._wanted)

    def push(self, segment: bytes, rank: int) -> None:
        """segment: blob id (a UUIDv7, so that bytes order is age) and number."""
        if self._wanted.get(segment) != rank:
            self._wanted[segment] = rank
            heapq.heappush(self._heap, bytes((rank,)) + segment)
            if len(self._heap) > 2 * len(self._wanted) + 1024:
                self._heap = [bytes((rank,)) + known for known, rank in self._wanted.items()]
                heapq.heapify(self._heap)

    def discard(self, segment: bytes) -> None:
        self._wanted.pop(segment, None)

    def pop(self) -> bytes | None:
        while self._heap:
            entry = heapq.heappop(self._heap)
            segment = entry[1:]
            if self._wanted.get(segment) == entry[0]:
                del self._wanted[segment]
                return segment
        return None

    def clear(self) -> None:
        self._heap.clear()
        self._wanted.clear()

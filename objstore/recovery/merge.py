"""What the value of each register is, from all replicas that still speak. Pure.

The value of the highest ballot. That is the first round of a write: whoever was acknowledged had a majority of the
owners, so with no more than m of them silent one of these speaks for it; and whatever was accepted at a higher ballot
was derived from it. Recovery takes the place of the second round.

Which replicas count is the caller's business when there is a map: the owners. Without one, a node that was away when
a key was deleted and its tombstone forgotten (INV-11) may bring the key back. What such a node lacks is the floor: it
was on every owner before anything was forgotten, so at least a majority of them still has it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from objstore.model.clock import ZERO, Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Register, encode
from objstore.register.forgetting import Look
from objstore.repair.reading import Whole

_ZERO = ZERO.pack()
_NEVER = (_ZERO, _ZERO)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one replica holds of a partition. `tag`: the highest under which it is known to have worked."""

    records: list[Whole] = field(default_factory=list)
    floor: bytes = _ZERO
    tag: int = 0


def newest(holdings: Collection[Holding]) -> dict[bytes, Whole]:
    """By key the record of the highest ballot."""
    best: dict[bytes, Whole] = {}
    for holding in holdings:
        for record in holding.records:
            known = best.get(record.key)
            if record.ballot != _ZERO and (known is None or record.ballot > known.ballot):
                best[record.key] = record
    return best


def newest_without_map(holdings: Mapping[NodeId, Holding], majority: int) -> dict[bytes, Whole]:
    """As `newest`, when nobody knows who owned the partition: values at or below the floor of a majority count only
    from those who have that floor. A key that has no other gets a tombstone, for it may be left on a live node."""
    reached = sorted((holding.floor for holding in holdings.values()), reverse=True)
    floor = reached[majority - 1] if len(reached) >= majority else _ZERO
    best = newest([_above(holding, floor) for holding in holdings.values()])
    for holding in holdings.values():
        for record in holding.records:
            best.setdefault(record.key, _tombstone(record, floor))
    return best


def _above(holding: Holding, floor: bytes) -> Holding:
    if holding.floor >= floor:
        return holding
    return Holding([record for record in holding.records if record.ballot > floor])


def _tombstone(record: Whole, floor: bytes) -> Whole:
    return Whole(record.key, floor, b"", encode(Register(b"", (), Ballot.unpack(floor).time)), b"")


def highest_floor(holdings: Collection[Holding]) -> bytes:
    return max((holding.floor for holding in holdings), default=_ZERO)


def installable(values: Mapping[bytes, Whole], targets: Collection[Look], proposer: int) -> dict[bytes, Whole]:
    """The values under ballots that every target takes: their own wherever that is possible.

    A target may have promised, accepted or forgotten at a higher ballot. Then the value goes under a new one, above
    everything: recovery has read as a write round does, and the fences keep everybody else away."""
    above = _highest(values, targets)
    new = Ballot(above.time + 1, proposer).pack()
    return {
        key: value if all(_takes(target, key, value.ballot) for target in targets) else value._replace(ballot=new)
        for key, value in values.items()
    }


def _highest(values: Mapping[bytes, Whole], targets: Collection[Look]) -> Ballot:
    ballots = [_ZERO, *(value.ballot for value in values.values())]
    for target in targets:
        ballots.append(target.floor)
        ballots.extend(max(row) for row in target.ballots.values())
    return Ballot.unpack(max(ballots))


def _takes(target: Look, key: bytes, ballot: bytes) -> bool:
    accepted, promised = target.ballots.get(key, _NEVER)
    if accepted == ballot:
        return True
    past = max(accepted, target.floor) if accepted == _ZERO else accepted
    return ballot > past and ballot >= promised


def lacking(values: Mapping[bytes, Whole], target: Look) -> list[Whole]:
    """What this one has not accepted yet, in order of the keys."""
    return [values[key] for key in sorted(values) if target.accepted(key) < values[key].ballot]


def held_by_majority(values: Mapping[bytes, Whole], targets: Collection[Look], owners: int) -> bool:
    """Every value is with a majority of the owners, `targets` being those that answer."""
    return all(
        sum(target.accepted(key) >= value.ballot for target in targets) > owners // 2 for key, value in values.items()
    )

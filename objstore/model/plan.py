"""A plan: changes of membership that an operator has staged, and what became of them. Words only.

One record in the coordinator (key `plan`), JSON, changed only by compare-and-swap:

    staged   collected, shown, changed at will; nothing happens
    applied  the operator wants it; the leading repairer begins it as soon as that is safe
    begun    the repairer is about to publish the map that carries it out. That map bears the plan's id
             (`ClusterMap.plan`), so that whoever leads next knows whether it was published: then the record goes

Changes name nodes by id: a name can change its bearer between two looks, an id cannot.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from objstore.model.formats import json_decoder
from objstore.model.ids import NodeId


class Add(msgspec.Struct, frozen=True, tag="add"):
    """A live spare, or a drained member, gets its share."""

    id: NodeId
    name: str
    capacity_bytes: int = 0  # 0 = as the node says


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """A member loses its share; it stays a member until it is removed, and serves what it still holds."""

    id: NodeId
    name: str


class Replace(msgspec.Struct, frozen=True, tag="replace"):
    """A live spare takes the slots of a member, which is drained."""

    id: NodeId
    name: str
    new: NodeId
    new_name: str


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """A member leaves the cluster for good: drained and empty, or gone and not needed any more."""

    id: NodeId
    name: str


class Resize(msgspec.Struct, frozen=True, tag="resize"):
    """Another share for a member."""

    id: NodeId
    name: str
    capacity_bytes: int


Change: TypeAlias = Add | Drain | Replace | Remove | Resize

PlanState = Literal["staged", "applied", "begun"]


class Plan(msgspec.Struct, frozen=True):
    id: str  # 16 hex digits, drawn anew whenever the changes change
    changes: tuple[Change, ...]
    state: PlanState = "staged"
    forced: bool = False  # the operator accepts that data may be lost
    format: int = 1


def describe(change: Change) -> str:
    """As the command that staged it."""
    match change:
        case Replace():
            return f"replace {change.name} {change.new_name}"
        case Resize():
            return f"resize {change.name} {change.capacity_bytes}"
        case _:
            return f"{type(change).__name__.lower()} {change.name}"


def merged(changes: tuple[Change, ...], new: Change) -> tuple[Change, ...]:
    """With the new change in the place of earlier ones about the same nodes."""
    about = _nodes(new)
    return (*(one for one in changes if not about & _nodes(one)), new)


def _nodes(change: Change) -> set[NodeId]:
    return {change.id, change.new} if isinstance(change, Replace) else {change.id}


encode_plan = msgspec.json.Encoder().encode
decode_plan = json_decoder(Plan, "the plan", known=1)  # raises msgspec.DecodeError

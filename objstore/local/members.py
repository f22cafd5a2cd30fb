"""Nodes that join a running cluster on this machine, and such as leave it: what `objstore chaos add|retire` does.

A node added here is only a process that runs: a spare until `objstore node add` and `objstore plan apply` give it a
share. One that is retired is not started again by later starts of the folder; its data stay until somebody erases them.
"""

from __future__ import annotations

import re

import msgspec

from objstore.local.commands import Command
from objstore.local.folder import ExtraNode, Shape
from objstore.local.launch import NODES_MAX, Cluster, node_member
from objstore.local.supervisor import ACTIONS, StartFailed
from objstore.model.errors import InvalidRequest

ADD, RETIRE = "add", "retire"
ALL_ACTIONS = (*ACTIONS, ADD, RETIRE)
_NODE_NAME = re.compile(r"n[1-9][0-9]{0,3}")


def act(cluster: Cluster, command: Command) -> str:
    """What the supervisor of `objstore up` carries out. One sentence on what was done."""
    match command.action:
        case "add":
            return add(cluster, command.name, zone=command.zone, capacity=command.capacity)
        case "retire":
            return retire(cluster, command.name)
        case _:
            return cluster.supervisor.act(command.action, command.name)


def add(cluster: Cluster, name: str, *, zone: str = "", capacity: str = "") -> str:
    """Start a new, empty node. zone: one of its own if not given; capacity: that of the others."""
    state, shape = cluster.state, cluster.state.shape
    if not _NODE_NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r}: nodes are called n1, n2, ... here")
    if any(member.name == name for member in state.members):
        raise InvalidRequest(f"there is a {name} already; free is {_free(cluster)}")
    if sum(member.role == "node" for member in state.members) >= NODES_MAX:
        raise InvalidRequest(f"one machine runs {NODES_MAX} nodes at most here")
    number = int(name[1:])
    one_each = shape.zones == shape.nodes
    extra = ExtraNode(name, zone or f"z{number if one_each else (number - 1) % shape.zones + 1}", capacity)
    returning = cluster.folder.data_of(name).exists()
    try:
        cluster.supervisor.start_all([node_member(extra)])
    except StartFailed:
        cluster.supervisor.forget(name)
        raise
    extras = tuple(one for one in shape.extras if one.name != name)
    _keep(cluster, msgspec.structs.replace(shape, extras=(*extras, extra), retired=_without(shape.retired, name)))
    address = next(member.address for member in state.members if member.name == name)
    what = "with its old data" if returning else "as a new, empty node"
    return f"{name} runs at {address} in zone {extra.zone}, {what}; it has no share yet"


def retire(cluster: Cluster, name: str) -> str:
    """End a node for good."""
    shape = cluster.state.shape
    if not any(member.name == name and member.role == "node" for member in cluster.state.members):
        raise InvalidRequest(f"there is no node {name!r} here")
    cluster.supervisor.forget(name)
    extras = tuple(one for one in shape.extras if one.name != name)
    _keep(cluster, msgspec.structs.replace(shape, extras=extras, retired=(*_without(shape.retired, name), name)))
    return f"{name} has ended and is not started again; its data stay in {cluster.folder.data_of(name)}"


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(one for one in names if one != name)


def _free(cluster: Cluster) -> str:
    taken = {member.name for member in cluster.state.members}
    return next(f"n{i}" for i in range(1, len(taken) + 2) if f"n{i}" not in taken)


def _keep(cluster: Cluster, shape: Shape) -> None:
    cluster.state.shape = shape
    cluster.folder.write_shape(shape)
    cluster.folder.write_state(cluster.state)

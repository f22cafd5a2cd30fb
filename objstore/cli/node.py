"""`objstore node`: the members of the cluster. Every change is only staged; `objstore plan apply` carries it out.

Exit codes: 0 done, or staged; 4 something does not answer; 6 refused (ok-to-stop: no); 7 a plan is being carried out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import msgspec

from objstore.adapters.randomness import SystemRandom
from objstore.cli.connect import Access, add_cluster_flags, connected
from objstore.cli.main import EXIT_REFUSED
from objstore.cli.nodelist import answering, describe_nodes, list_nodes
from objstore.cli.plan import run_about_plan, show
from objstore.cluster import topology
from objstore.cluster.topology import Outlook
from objstore.config.kinds import parse_size
from objstore.model.cluster import Node
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId
from objstore.model.plan import Add, Change, Drain, Remove, Replace, Resize
from objstore.placement.stopping import reasons_not_to_stop


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "NAME: as in `node list`, or the beginning of an id. Changes collect in one plan: objstore plan show."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every node, what it is and what it holds")
    listing.add_argument("--json", action="store_true", help="the same as JSON")
    add_cluster_flags(listing)
    texts = {
        "add": "give running spares (or drained nodes) a share",
        "drain": "take nodes' share away; they stay members until they are empty and removed",
        "remove": "let go of nodes: drained and empty, or gone for good",
    }
    for action, text in texts.items():
        one = actions.add_parser(action, help=text)
        one.add_argument("names", nargs="+", metavar="NAME")
        if action == "add":
            one.add_argument("--capacity", metavar="SIZE", help="its weight in the layout (default: as it says)")
        _add_change_flags(one)
    replace = actions.add_parser("replace", help="a running spare takes the place of a node, dead or alive")
    replace.add_argument("old", metavar="OLD")
    replace.add_argument("new", metavar="NEW")
    _add_change_flags(replace)
    resize = actions.add_parser("resize", help="change a node's weight in the layout")
    resize.add_argument("name", metavar="NAME")
    resize.add_argument("capacity", metavar="SIZE", help="bytes, or like 2T, 500GiB")
    _add_change_flags(resize)
    ok = actions.add_parser("ok-to-stop", help="exit code 0 if these nodes may be stopped now, 6 if not")
    ok.add_argument("names", nargs="+", metavar="NAME")
    ok.add_argument("--json", action="store_true", help="the answer as JSON")
    add_cluster_flags(ok)


def _add_change_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the plan as JSON")
    add_cluster_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    return run_about_plan(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access:
        match arguments.action:
            case "list":
                return await _list(access, as_json=arguments.json)
            case "ok-to-stop":
                return await _ok_to_stop(access, arguments)
            case _:
                return await _stage(access, arguments)


# --- changes ---------------------------------------------------------------------------------------------------


async def _stage(access: Access, arguments: argparse.Namespace) -> int:
    for make in _changes(arguments):
        await topology.stage(access.coordinator, make, lambda: SystemRandom().bytes(8).hex())
    return await show(access, as_json=arguments.json)


def _changes(arguments: argparse.Namespace) -> list[Callable[[Outlook], Change]]:
    match arguments.action:
        case "add":
            capacity = _capacity(arguments.capacity) if arguments.capacity else 0
            return [_adding(name, capacity) for name in arguments.names]
        case "drain":
            return [_about(Drain, name) for name in arguments.names]
        case "remove":
            return [_about(Remove, name) for name in arguments.names]
        case "replace":
            return [lambda seen: _replacing(seen, arguments.old, arguments.new)]
        case _:
            capacity = _capacity(arguments.capacity)
            return [lambda seen: Resize(*_member(seen, arguments.name), capacity)]


def _capacity(text: str) -> int:
    try:
        size = parse_size(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no capacity; give bytes, or a size like 500GiB or 2TB") from None
    if size <= 0:
        raise InvalidRequest("the capacity must be above 0; to take a node's share away: objstore node drain")
    return size


def _adding(name: str, capacity: int) -> Callable[[Outlook], Change]:
    return lambda seen: Add(*_unplaced(seen, name), capacity)


def _about(kind: type[Drain] | type[Remove], name: str) -> Callable[[Outlook], Change]:
    return lambda seen: kind(*_member(seen, name))


def _replacing(seen: Outlook, old: str, new: str) -> Change:
    leaving, coming = _member(seen, old), _unplaced(seen, new)
    return Replace(*leaving, *coming)


def _member(seen: Outlook, name: str) -> tuple[NodeId, str]:
    placed = set(seen.map.newest.layout.nodes)
    found = _matching(seen.map.nodes, name)
    if len(found) > 1:
        found = [node for node in found if node.id in placed] or found
    if not found and _matching(_spares(seen), name):
        raise InvalidRequest(f"node {name} is a spare: it has no share. Give it one with: objstore node add {name}")
    return _the_one(found, name, seen)


def _unplaced(seen: Outlook, name: str) -> tuple[NodeId, str]:
    """A spare, or a drained member."""
    placed = set(seen.map.newest.layout.nodes)
    drained = [node for node in seen.map.nodes if node.id not in placed]
    found = _matching(_spares(seen), name) or _matching(drained, name)
    if not found and _matching(seen.map.nodes, name):
        raise InvalidRequest(f"node {name} has a share already; look at: objstore node list")
    return _the_one(found, name, seen)


def _spares(seen: Outlook) -> list[Node]:
    members = {node.id for node in seen.map.nodes}
    leases = [lease for lease in seen.leases.values() if lease.id not in members]
    return [Node(lease.id, lease.name, lease.zone, lease.capacity_bytes) for lease in leases]


def _matching(nodes: list[Node] | tuple[Node, ...], name: str) -> list[Node]:
    return [node for node in nodes if node.name == name] or [
        node for node in nodes if len(name) >= 4 and node.id.startswith(name)
    ]


def _the_one(found: list[Node], name: str, seen: Outlook) -> tuple[NodeId, str]:
    if len(found) == 1:
        return found[0].id, found[0].name
    if found:
        ids = " ".join(node.id for node in found)
        raise InvalidRequest(f"{name} may be any of {ids}: give the id, or enough of its beginning")
    names = sorted({node.name for node in (*seen.map.nodes, *_spares(seen))})
    raise InvalidRequest(f"there is no node {name!r}; there are {' '.join(names)}. A new node must run first")


# --- looking ---------------------------------------------------------------------------------------------------


async def _list(access: Access, *, as_json: bool) -> int:
    seen = await topology.look(access.coordinator)
    found = list_nodes(seen, await answering(access.transport, seen))
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(describe_nodes(found)))
    return 0


class Answer(msgspec.Struct):
    """What `ok-to-stop --json` prints."""

    ok: bool
    nodes: list[str]
    reasons: list[str]
    format: int = 1


async def _ok_to_stop(access: Access, arguments: argparse.Namespace) -> int:
    seen = await topology.look(access.coordinator)
    ids = []
    for name in arguments.names:
        if _matching(seen.map.nodes, name):
            ids.append(_member(seen, name)[0])
        else:
            _unplaced(seen, name)  # a spare may be stopped at any time; a wrong name is an error
    seen = await topology.fresh(access.coordinator, seen)
    reasons = reasons_not_to_stop(seen.map, seen.survey, await answering(access.transport, seen), ids)
    names = " ".join(arguments.names)
    if arguments.json:
        print(msgspec.json.encode(Answer(not reasons, arguments.names, reasons)).decode())
    elif reasons:
        print("\n".join([f"{names} must not be stopped now:", *(f"  {reason}" for reason in reasons)]))
    else:
        print(f"{names} may be stopped: every object stays readable and writable meanwhile.")
    return EXIT_REFUSED if reasons else 0

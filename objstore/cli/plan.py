"""`objstore plan`: the staged changes of nodes: look at them, apply them, follow them, or discard them.

Exit codes: 0 done; 4 something does not answer; 5 --timeout is over; 6 refused as unsafe; 7 the plan or the cluster has
changed since revision N.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine

import msgspec

from objstore.cli.connect import Access, add_cluster_flags, connected
from objstore.cli.follow import follow
from objstore.cli.main import EXIT_CONFLICT, EXIT_REFUSED
from objstore.cli.planview import rate_of, render, report
from objstore.cluster import topology
from objstore.model.errors import Conflict, InvalidRequest
from objstore.placement.safety import Refusal


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what is staged, what it would move, and what is at risk")
    show.add_argument("--json", action="store_true", help="the same as JSON")
    apply = actions.add_parser("apply", help="carry it out, if it is still what `plan show` showed")
    apply.add_argument("--if-rev", type=int, metavar="N", help="the revision that `plan show` printed (needed)")
    apply.add_argument("--force-data-loss", action="store_true", help="although it is refused as unsafe")
    apply.add_argument("--wait", action="store_true", help="return when everything has moved")
    wait = actions.add_parser("wait", help="follow what is under way until everything has moved")
    discard = actions.add_parser("discard", help="forget it; possible until it begins")
    for action in (apply, wait):
        action.add_argument("--timeout", type=float, default=None, metavar="S", help="wait no longer (exit code 5)")
    for action in (show, apply, wait, discard):
        add_cluster_flags(action)


def run(arguments: argparse.Namespace) -> int:
    return run_about_plan(_main(arguments))


def run_about_plan(command: Coroutine[None, None, int]) -> int:
    """To its end. Another operator, or the repairer, may have been faster: exit code 7."""
    try:
        return asyncio.run(command)
    except Conflict as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CONFLICT


async def _main(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access:
        match arguments.action:
            case "show":
                return await show(access, as_json=arguments.json)
            case "apply":
                return await _apply(access, arguments)
            case "wait":
                return await follow(access.coordinator, arguments.timeout)
            case _:
                found = await topology.discard(access.coordinator)
                print("The plan is discarded." if found else "There is no plan.")
                return 0


async def show(access: Access, *, as_json: bool) -> int:
    seen = await topology.look(access.coordinator)
    plan = seen.plan if seen.plan is not None and seen.plan.id != seen.map.plan else None
    judged = None
    if plan is not None:
        try:
            judged = topology.judge(seen, plan.changes)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"the plan does not fit the cluster any more ({error}): objstore plan discard"
            ) from None
    rate = rate_of(seen.survey, access.config.repair.bandwidth)
    if as_json:
        print(msgspec.json.encode(report(seen, judged, rate)).decode())
    else:
        print(render(seen, judged, rate))
    return 0


async def _apply(access: Access, arguments: argparse.Namespace) -> int:
    coordinator = access.coordinator
    seen = await topology.look(coordinator)
    plan = seen.plan
    if plan is None or plan.id == seen.map.plan:
        raise InvalidRequest("there is no plan; stage changes with: objstore node add|drain|replace|remove|resize")
    if arguments.if_rev is None:
        raise InvalidRequest(
            "say which revision of the plan you have seen, so that nothing else is carried out: "
            "objstore plan show prints it, with the command to apply it"
        )
    if seen.revision != arguments.if_rev:
        raise Conflict(
            f"the plan or the cluster has changed: it is at revision {seen.revision}, not {arguments.if_rev}; "
            "look again with: objstore plan show"
        )
    if plan.state != "staged":
        print("The plan has been applied already.", file=sys.stderr)
    else:
        seen = await topology.fresh(coordinator, seen)
        refused = topology.judge(seen, plan.changes).refusals
        if refused and not (arguments.force_data_loss and all(one.can_force for one in refused)):
            return _refuse(refused, forced=arguments.force_data_loss)
        await topology.apply(coordinator, seen, forced=arguments.force_data_loss)
        print("Applied: the repairer that leads carries it out, whatever becomes of this command.")
    if arguments.wait:
        return await follow(coordinator, arguments.timeout)
    print("Follow it: objstore plan wait   or: objstore watch")
    return 0


def _refuse(refused: list[Refusal], *, forced: bool) -> int:
    for one in refused:
        print(f"error: unsafe: {one.text}", file=sys.stderr)
    if all(one.can_force for one in refused):
        print("  or accept that data may be lost: --force-data-loss", file=sys.stderr)
    elif forced:
        print("  --force-data-loss does not help here", file=sys.stderr)
    return EXIT_REFUSED

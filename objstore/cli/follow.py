"""Follows an applied plan until everything lies where it belongs. Leaving it leaves the work going on."""

from __future__ import annotations

import asyncio
import sys

from objstore.admin import figures
from objstore.cli.main import EXIT_TIMED_OUT
from objstore.cli.planview import under_way
from objstore.cli.progress import is_terminal
from objstore.cluster import topology
from objstore.cluster.port import Coordinator
from objstore.cluster.topology import Outlook
from objstore.model.errors import ObjstoreError
from objstore.model.plan import Plan

_TICK_S = 0.5
_LINE_S = 5.0  # between two lines where nothing can be redrawn
LINGERS_S = 10.0  # what a drained node keeps for so long after all has moved is left of writes that were abandoned


async def follow(coordinator: Coordinator, timeout_s: float | None) -> int:
    """0 when all has moved, EXIT_TIMED_OUT after `timeout_s`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    line = _Line()
    stamp: int | None = None  # of the survey when the layout was first seen to hold
    empty_since: tuple[tuple[tuple[str, int], ...], float] | None = None
    while True:
        try:
            seen = await topology.look(coordinator)
        except ObjstoreError as error:
            line.show(f"cannot look now: {error}")
        else:
            what = _pending(seen)
            if what:
                stamp = None
            elif seen.survey is not None and stamp is None:
                stamp, what = seen.survey.as_of_ms, "the data are looked at"
            elif seen.survey is not None and seen.survey.as_of_ms == stamp:
                what = "the data are looked at"
            left = tuple(_left(seen))
            if empty_since is None or empty_since[0] != left:
                empty_since = (left, loop.time())
            if not what and left and loop.time() - empty_since[1] < LINGERS_S:
                what = "; ".join(_emptied(name, count) for name, count in left)
            if not what:
                line.end()
                print("\n".join(_end(left)))
                return 0
            line.show(what)
        if timeout_s is not None and loop.time() - began >= timeout_s:
            line.end()
            print("error: it is not finished yet; it goes on by itself: objstore plan wait", file=sys.stderr)
            return EXIT_TIMED_OUT
        await asyncio.sleep(_TICK_S)


def _pending(seen: Outlook) -> str:
    """What is still to be done, as far as is known; "" if nothing."""
    plan = _open_plan(seen)
    if plan is not None:
        refused = topology.judge(seen, plan.changes).refusals
        why = f": {refused[0].text}" if refused else ""
        return f"the plan waits to begin{why}"
    if seen.map.next is None and (seen.survey is None or seen.survey.epoch != seen.map.current.epoch):
        return "the data are looked at under the new layout"
    found = under_way(seen)
    if found or seen.survey is None:
        return found or "no repairer has looked at the data"
    objects = seen.survey.objects
    left = seen.survey.repair.misplaced + objects.total - objects.full
    return f"{figures.plural(left, 'object')} not where they belong yet" if left else ""


def _open_plan(seen: Outlook) -> Plan | None:
    plan = seen.plan
    return plan if plan is not None and plan.state != "staged" and plan.id != seen.map.plan else None


def _left(seen: Outlook) -> list[tuple[str, int]]:
    """What members without a share, that run, still hold; -1: not known yet."""
    placed = seen.map.newest.layout.nodes
    held = seen.survey.nodes if seen.survey is not None else {}
    drained = [node for node in seen.map.nodes if node.id not in placed and node.id in seen.leases]
    return [(node.name, held[node.id].needed) for node in drained if node.id in held and held[node.id].needed]


def _emptied(name: str, count: int) -> str:
    return f"{name} is emptied: " + (f"{figures.plural(count, 'fragment')} left" if count >= 0 else "it is looked at")


def _end(left: tuple[tuple[str, int], ...]) -> list[str]:
    lines = ["Everything is where it belongs."]
    for name, count in left:
        if count < 0:
            lines.append(f"Whether {name} holds nothing that is needed is not known yet: objstore node list")
            continue
        lines.append(
            f"{name} still has {figures.plural(count, 'fragment')} of writes that never ended; "
            "they are given up within half an hour"
        )
    return lines


class _Line:
    """In place on a terminal; elsewhere a line when it changes, and not more often than every few seconds."""

    def __init__(self) -> None:
        self._in_place = is_terminal(sys.stderr)
        self._said = ""
        self._at = float("-inf")

    def show(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._in_place:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        elif text != self._said and now - self._at >= _LINE_S:
            print(text, file=sys.stderr, flush=True)
            self._at = now
        self._said = text

    def end(self) -> None:
        if self._in_place and self._said:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

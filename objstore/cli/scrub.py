"""`objstore scrub`: how far every node has read back what it stores, and steering that on all of them at once.

What is asked is a record in the coordinator, which nodes follow; what they did comes with their leases. So it does not
matter which process is asked, and nodes that are away follow when they are back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from objstore.admin import figures
from objstore.cli.connect import Access, add_cluster_flags, connected
from objstore.cli.main import EXIT_TIMED_OUT, EXIT_UNAVAILABLE
from objstore.cli.values import duration, rate
from objstore.cluster.port import NODES, SCRUB_CONTROL_KEY, Coordinator
from objstore.model.cluster import NodeLease, decode_node_lease
from objstore.model.errors import Unavailable
from objstore.model.ids import NodeId
from objstore.model.scrubbing import ScrubControl, ScrubFound, ScrubReport, decode_scrub, encode_scrub

EXIT_FOUND = 3
PAUSE_S = 86_400.0  # when none is given: a pause that is forgotten ends by itself
LOOK_S = 0.5
TELL_S = 5.0
GONE_S = 30.0  # a node without a lease for so long is not waited for any more
ATTEMPTS = 20  # to change the record while others do


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Nodes scrub by themselves, for ever: `start` is for those who do not want to wait for the next round. "
        "What is found damaged is quarantined at once and made anew by repair."
    )
    commands = parser.add_subparsers(dest="action", metavar="action", required=True)
    status = commands.add_parser(
        "status", help="per node: how far, how long to go, when it was last through, what was found"
    )
    start = commands.add_parser("start", help="begin a round on every node now; ends a pause")
    start.add_argument("--mode", choices=("full", "quick"), default="full", help="quick: headers only (default: full)")
    start.add_argument("--wait", action="store_true", help="until all are through; exit code 3 if damage was found")
    start.add_argument("--timeout", type=duration, metavar="DURATION", help="with --wait: exit code 5 after that")
    pause = commands.add_parser("pause", help="stop reading, on every node")
    pause.add_argument("duration", nargs="?", type=duration, default=PAUSE_S, help="such as 4h (default: 24h)")
    resume = commands.add_parser("resume", help="go on")
    change = commands.add_parser("rate", help="how much each node reads per second")
    change.add_argument("rate", type=_rate, help='such as 50MiB/s, or "default": as each node is configured')
    for one in (status, start, pause, resume, change):
        add_cluster_flags(one)
        one.add_argument("--json", action="store_true", help="print the result as JSON")


def _rate(text: str) -> int:
    return 0 if text == "default" else rate(text)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access:
        if arguments.action == "start":
            return await _start(access, arguments)
        if arguments.action == "pause":
            until_ms = _now_ms() + int(arguments.duration * 1000)
            await _change(access, lambda old: msgspec.structs.replace(old, paused=True, until_ms=until_ms))
        elif arguments.action == "resume":
            await _change(access, lambda old: msgspec.structs.replace(old, paused=False, until_ms=0))
        elif arguments.action == "rate":
            await _change(access, lambda old: msgspec.structs.replace(old, rate=arguments.rate))
        control, leases = await read_control(access.coordinator), await _leases(access)
        if arguments.json:
            print(_as_json(control, leases))
        elif arguments.action == "status":
            print(render(control, leases, _now_ms()))
        else:
            print(_headline(control, _now_ms()))
        return 0


async def _start(access: Access, arguments: argparse.Namespace) -> int:
    before = {lease.id: lease for lease in await _leases(access)}

    def asked(old: ScrubControl) -> ScrubControl:
        number = max(_now_ms(), old.start + 1)
        return msgspec.structs.replace(old, start=number, mode=arguments.mode, paused=False, until_ms=0)

    control = await _change(access, asked)
    off = [lease.name for lease in before.values() if lease.scrub.state == "off"]
    if off:
        print(f"{' '.join(sorted(off))}: node.scrub is off, so nothing is read there", file=sys.stderr)
    if not arguments.wait:
        if arguments.json:
            print(_as_json(control, list(before.values())))
        else:
            nodes = figures.plural(len(before) - len(off), "node")
            print(f"a {arguments.mode} round begins on {nodes}; see: objstore scrub status")
        return 0
    waiting = Waiting(before, control.start)
    try:
        async with asyncio.timeout(arguments.timeout):
            while True:
                if waiting.look(await _try_leases(access), time.monotonic()):
                    break
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        print(f"not through yet: {' '.join(waiting.unfinished)}", file=sys.stderr)
        return EXIT_TIMED_OUT
    return _tell(waiting, arguments)


class Waiting:
    """For every node that scrubs to complete the round that was asked for."""

    def __init__(self, before: Mapping[NodeId, NodeLease], start: int) -> None:
        self._before = {id: lease for id, lease in before.items() if lease.scrub.state != "off"}
        self._start = start
        self._last = dict(self._before)
        self._seen_at: dict[NodeId, float] = {}
        self._told_at = 0.0
        self.gone: list[str] = []

    @property
    def unfinished(self) -> list[str]:
        return sorted(lease.name for lease in self._last.values() if lease.scrub.obeyed != self._start)

    def look(self, leases: Sequence[NodeLease] | None, now: float) -> bool:
        """True: all are through, or will not be. None: it is not known now who has a lease."""
        if leases is None:
            return False
        self._last.update((lease.id, lease) for lease in leases if lease.id in self._before)
        alive = {lease.id for lease in leases}
        for id in self._before:
            if id in alive or id not in self._seen_at:
                self._seen_at[id] = now
        open_ = [id for id, lease in self._last.items() if lease.scrub.obeyed != self._start]
        self.gone = sorted(self._last[id].name for id in open_ if now - self._seen_at[id] > GONE_S)
        if now - self._told_at >= TELL_S and open_:
            self._told_at = now
            _tell_progress([self._last[id] for id in open_], len(self._before))
        return len(self.gone) == len(open_)

    def found(self) -> dict[str, ScrubFound]:
        """By name of node, since it was asked for."""
        return {
            lease.name: lease.scrub.found_ever.since(self._before[id].scrub.found_ever)
            for id, lease in self._last.items()
        }


def _tell_progress(open_: Sequence[NodeLease], nodes: int) -> None:
    parts = [f"{lease.name} {figures.percent(lease.scrub.done_bytes, lease.scrub.total_bytes)}" for lease in open_]
    print(
        f"{nodes - len(open_)} of {figures.plural(nodes, 'node')} through; {' '.join(sorted(parts))}", file=sys.stderr
    )


def _tell(waiting: Waiting, arguments: argparse.Namespace) -> int:
    found = waiting.found()
    total = sum(one.total for one in found.values())
    if arguments.json:
        print(msgspec.json.encode({"found": found, "gone": waiting.gone}).decode())
    else:
        for name, one in sorted(found.items()):
            if one.total:
                print(f"{name}: {one}")
        done = figures.plural(len(found) - len(waiting.gone), "node")
        print(
            f"{done} through, " + (f"{total} damaged; repair makes them anew: objstore watch" if total else "no damage")
        )
        if waiting.gone:
            print(f"{' '.join(waiting.gone)} went away and did not finish", file=sys.stderr)
    if waiting.gone:
        return EXIT_UNAVAILABLE
    return EXIT_FOUND if total else 0


# --- the coordinator ---------------------------------------------------------------------------------------------


async def read_control(coordinator: Coordinator) -> ScrubControl:
    entry = await coordinator.get(SCRUB_CONTROL_KEY)
    return _decode(entry.value) if entry is not None else ScrubControl()


def _decode(raw: bytes) -> ScrubControl:
    try:
        return decode_scrub(raw)
    except msgspec.DecodeError:
        return ScrubControl()  # what cannot be read is ignored by nodes too, and replaced here


async def _change(access: Access, make: Callable[[ScrubControl], ScrubControl]) -> ScrubControl:
    """Compare-and-swap, so that two operators do not undo each other's."""
    for _ in range(ATTEMPTS):
        entry = await access.coordinator.get(SCRUB_CONTROL_KEY)
        control = make(_decode(entry.value) if entry is not None else ScrubControl())
        expected = entry.revision if entry is not None else 0
        if await access.coordinator.put(SCRUB_CONTROL_KEY, encode_scrub(control), expected=expected) is not None:
            return control
    raise Unavailable(f"{SCRUB_CONTROL_KEY} changes all the time; try again")


async def _leases(access: Access) -> list[NodeLease]:
    entries, _ = await access.coordinator.range(NODES)
    found = []
    for entry in entries:
        try:
            found.append(decode_node_lease(entry.value))
        except msgspec.DecodeError:
            print(f"{entry.key} cannot be read: another version of objstore?", file=sys.stderr)
    return found


async def _try_leases(access: Access) -> list[NodeLease] | None:
    try:
        return await _leases(access)
    except Unavailable:
        return None


# --- what is shown -----------------------------------------------------------------------------------------------


def render(control: ScrubControl, leases: Sequence[NodeLease], now_ms: int) -> str:
    rows: list[tuple[str, ...]] = [
        ("Node", "State", "Round", "Done", "ETA", "Last complete", "Found ever", "Not rebuilt")
    ]
    rows += [_row(lease, now_ms) for lease in sorted(leases, key=_by_name)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_headline(control, now_ms), ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _headline(control: ScrubControl, now_ms: int) -> str:
    rate_text = f"{figures.size(control.rate)}/s per node" if control.rate else "each node at its configured rate"
    if not control.pauses(now_ms):
        return f"scrub: {rate_text}"
    if not control.until_ms:
        return "scrub: paused until `objstore scrub resume`"
    return f"scrub: paused, goes on by itself in {figures.duration((control.until_ms - now_ms) / 1000)}"


def _by_name(lease: NodeLease) -> tuple[int, str]:
    """n2 before n10."""
    return len(lease.name), lease.name


def _row(lease: NodeLease, now_ms: int) -> tuple[str, ...]:
    scrub = lease.scrub
    under_way = scrub.started_ms > 0
    eta = scrub.eta_s if scrub.state == "running" else None
    return (
        lease.name,
        f"{scrub.state} ({scrub.mode})" if scrub.state == "running" else scrub.state,
        figures.percent(scrub.done_bytes, scrub.total_bytes) if under_way else "-",
        f"{figures.size(scrub.done_bytes)} of {figures.size(scrub.total_bytes)}" if under_way else "-",
        figures.duration(eta) if eta is not None else "-",
        _last(scrub, now_ms),
        str(scrub.found_ever),
        str(lease.damaged),
    )


def _last(scrub: ScrubReport, now_ms: int) -> str:
    last = scrub.last
    if not last.finished_ms:
        return "never"
    ago = figures.duration(max(0, now_ms - last.finished_ms) / 1000)
    return f"{ago} ago, {figures.size(last.bytes)}, {last.found}"


def _as_json(control: ScrubControl, leases: Sequence[NodeLease]) -> str:
    nodes = [
        {"name": lease.name, "id": lease.id, "damaged": lease.damaged, **msgspec.to_builtins(lease.scrub)}
        for lease in sorted(leases, key=_by_name)
    ]
    return msgspec.json.encode({"control": control, "nodes": nodes}).decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

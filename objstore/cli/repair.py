"""`objstore repair`: what repair and rebalance do, and steering them.

What is ordered is kept in the coordinator and followed by whichever repairer leads. Exit code: 0 done; 3 `status`:
something is hurt or misplaced, `failed`: something failed; 4 unavailable; 5 ordered, but no repairer follows yet.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec

from objstore.admin import figures, text
from objstore.cli.connect import Access, add_cluster_flags, connected
from objstore.cli.lookup import object_of, serving
from objstore.cli.main import EXIT_TIMED_OUT
from objstore.cluster.port import REPAIR_CONTROL_KEY
from objstore.cluster.surveys import read_survey
from objstore.config.kinds import BANDWIDTH
from objstore.model.errors import InvalidRequest, Unavailable
from objstore.model.survey import (
    Budget,
    FailedItem,
    RepairControl,
    Survey,
    decode_control,
    encode_control,
)

EXIT_DEGRADED = 3
_FOLLOWS_S = 6.0  # how long is waited for a repairer to follow an order
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_FRESH_MS = 5000

Answer = Callable[[argparse.Namespace, Access], Awaitable[int]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Orders are kept in the coordinator: they outlive every process, and each can be given anywhere."
    parts = parser.add_subparsers(dest="what", required=True, metavar="what")
    for name, help_ in (
        ("status", "what it does, how far it is, how fast and why not faster, and what it did last"),
        ("failed", "what could not be repaired, how often it was tried, when again, and why it failed"),
    ):
        part = parts.add_parser(name, help=help_, description=help_)
        part.add_argument("--json", action="store_true", help="as JSON")
        add_cluster_flags(part)
    part = parts.add_parser("now", help="try everything at once: what waits, what failed, or one object first")
    part.description = (
        "Retries all that failed or waits, without its pause, and no longer waits for nodes that do not answer now: "
        "what they hold is rebuilt on the others."
    )
    part.add_argument("object", nargs="?", metavar="BUCKET/KEY", help="this object before all others")
    add_cluster_flags(part)
    part = parts.add_parser("pause", help="stop, for a while or until `resume`; nothing is repaired meanwhile")
    part.add_argument("duration", nargs="?", metavar="DURATION", help="such as 30m, 2h, 90s; none: until `resume`")
    part.add_argument("--rebalance", action="store_true", help="only moves of what is whole; repair goes on")
    add_cluster_flags(part)
    part = parts.add_parser("resume", help="end a pause of repair and of moves")
    part.add_argument("--rebalance", action="store_true", help="of moves only")
    add_cluster_flags(part)
    part = parts.add_parser("budget", help="how fast it may go; without a value: what holds now")
    part.add_argument(
        "rate", nargs="?", metavar="RATE|auto|unlimited|default",
        help="auto: as fast as the nodes can beside their clients; a rate such as 50MiB: the same, and at most so many "
        "bytes written per second; unlimited: clients or not; default: as configured (repair.bandwidth)",
    )  # fmt: skip
    add_cluster_flags(part)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    answers: dict[str, Answer] = {
        "status": _status,
        "failed": _failed,
        "now": _now,
        "pause": _pause,
        "resume": _resume,
        "budget": _budget,
    }
    async with connected(arguments) as access:
        return await answers[arguments.what](arguments, access)


# --- what is shown -----------------------------------------------------------------------------------------------


async def _survey(access: Access) -> Survey:
    survey = await read_survey(access.coordinator)
    if survey is None:
        raise Unavailable("no repairer has looked at the data yet; is one running? see: objstore status")
    return survey


async def _status(arguments: argparse.Namespace, access: Access) -> int:
    survey = await _survey(access)
    repair = survey.repair
    if arguments.json:
        shown = {"leader": survey.leader, "as_of_ms": survey.as_of_ms, "repair": repair, "receipts": survey.receipts}
        print(msgspec.json.encode({**shown, "failed": survey.failed_items}).decode())
    else:
        print("\n".join(describe(survey, time.time_ns() // 1_000_000)))
    return 0 if repair.state == "idle" else EXIT_DEGRADED


def describe(survey: Survey, now_ms: int) -> list[str]:
    repair = survey.repair
    lines = [f"{text.kind_title(repair)}  {text.repair_line(repair)}"]
    lines += [f"  {name:<12}{value}" for name, value in text.repair_details(survey)]
    age_ms = now_ms - survey.as_of_ms
    by = f"by {survey.leader}, {figures.duration(max(0, age_ms) / 1000)} ago"
    lines.append(f"  {'reported':<12}{by}" + ("; no repairer is at work now?" if age_ms > _FRESH_MS else ""))
    lines += [f"  {text.receipt_line(receipt)}" for receipt in reversed(survey.receipts[-3:])]
    if survey.failed_items:
        lines.append(f"  {figures.plural(len(survey.failed_items), 'item')} failed lately: objstore repair failed")
    return lines


async def _failed(arguments: argparse.Namespace, access: Access) -> int:
    survey = await _survey(access)
    if arguments.json:
        print(msgspec.json.encode(survey.failed_items).decode())
    elif not survey.failed_items:
        print("nothing has failed and waits for another attempt")
    else:
        for item in survey.failed_items:
            print(_failed_line(item))
    return EXIT_DEGRADED if survey.failed_items else 0


def _failed_line(item: FailedItem) -> str:
    again = f"again in {figures.duration(item.again_in_s)}"
    return f"{item.item}  segment {item.segment}  {figures.plural(item.attempts, 'attempt')}, {again}: {item.error}"


# --- orders ------------------------------------------------------------------------------------------------------


async def _order(access: Access, change: Callable[[RepairControl], RepairControl]) -> RepairControl:
    """Change what is ordered, however many do so at once."""
    while True:
        entry = await access.coordinator.get(REPAIR_CONTROL_KEY)
        try:
            before = decode_control(entry.value) if entry is not None else RepairControl()
        except msgspec.DecodeError:
            before = RepairControl()  # of another version, or damaged: every repairer ignores it
        after = change(msgspec.structs.replace(before, orders=before.orders + 1))
        expected = entry.revision if entry is not None else 0
        if await access.coordinator.put(REPAIR_CONTROL_KEY, encode_control(after), expected=expected) is not None:
            return after


async def _followed(access: Access, order: RepairControl, said: str) -> int:
    """Wait until the leader reports that it follows."""
    deadline = time.monotonic() + _FOLLOWS_S
    while time.monotonic() < deadline:
        survey = await read_survey(access.coordinator)
        is_fresh = survey is not None and time.time_ns() // 1_000_000 - survey.as_of_ms < _FRESH_MS
        if survey is not None and is_fresh and survey.repair.orders >= order.orders:
            print(said)
            print(f"  {text.kind_title(survey.repair)}  {text.repair_line(survey.repair)}")
            return 0
        await asyncio.sleep(0.2)
    print(f"{said}. No repairer follows yet; whichever leads next will. See: objstore status", file=sys.stderr)
    return EXIT_TIMED_OUT


async def _pause(arguments: argparse.Namespace, access: Access) -> int:
    seconds = parse_duration(arguments.duration) if arguments.duration else 0
    until_ms = time.time_ns() // 1_000_000 + 1000 * seconds if seconds else 0
    how_long = f"for {figures.duration(seconds)}" if seconds else "until: objstore repair resume"
    if arguments.rebalance:
        fields = {"rebalance_paused": True, "rebalance_until_ms": until_ms}
        what = "moves are paused"
    else:
        fields = {"paused": True, "until_ms": until_ms}
        what = "repair is paused"
    order = await _order(access, lambda control: msgspec.structs.replace(control, **fields))
    return await _followed(access, order, f"{what} {how_long}")


async def _resume(arguments: argparse.Namespace, access: Access) -> int:
    fields: dict[str, int | bool] = {"rebalance_paused": False, "rebalance_until_ms": 0}
    if not arguments.rebalance:
        fields |= {"paused": False, "until_ms": 0}
    order = await _order(access, lambda control: msgspec.structs.replace(control, **fields))
    return await _followed(access, order, "resumed")


async def _now(arguments: argparse.Namespace, access: Access) -> int:
    blobs: list[str] = []
    if arguments.object:
        async with serving(access) as engine:
            info = await object_of(engine, arguments.object)
        blobs = [blob.id.hex() for blob in info.blobs]
        if not blobs:
            print(f"{arguments.object} is small: it lives in the metadata, whose replicas are brought up to date")
            return 0
    order = await _order(access, lambda it: msgspec.structs.replace(it, now=it.orders, first=blobs))
    what = arguments.object or "everything that waits or failed"
    paused = " as soon as it is not paused" if order.pauses(time.time_ns() // 1_000_000) else ""
    return await _followed(access, order, f"{what} is tried at once{paused}")


async def _budget(arguments: argparse.Namespace, access: Access) -> int:
    if arguments.rate is None:
        repair = (await _survey(access)).repair
        print(f"{text.budget(repair.budget)}" + (f"; {repair.throttle}" if repair.throttle else ""))
        return 0
    budget = parse_budget(arguments.rate)
    order = await _order(access, lambda control: msgspec.structs.replace(control, budget=budget))
    return await _followed(access, order, f"the budget is {'as configured' if budget is None else text.budget(budget)}")


def parse_budget(given: str) -> Budget | None:
    """None: as configured."""
    if given == "default":
        return None
    try:
        found: Budget = BANDWIDTH.parse(given.removesuffix("/s"))
    except ValueError as error:
        raise InvalidRequest(f"{given!r} is not a budget: give {BANDWIDTH.allowed}, or default") from error
    return found


def parse_duration(given: str) -> int:
    """Seconds."""
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", given.strip().lower())
    if match is None or match[2] not in _UNITS or not int(match[1]):
        raise InvalidRequest(f"{given!r} is not a duration; for example 90s, 30m, 2h, 1d")
    return int(match[1]) * _UNITS[match[2]]

"""The status as plain lines, for `objstore status`, log files and failing tests. Colour only where it is asked for."""

from __future__ import annotations

import time

from objstore.admin import figures
from objstore.admin.status import NodeStatus, Status
from objstore.model.survey import Budget, Receipt, RepairProgress, Survey

SYMBOLS = {"HEALTHY": "●", "DEGRADED": "▲", "AT_RISK": "✗", "UNAVAILABLE": "✗", "UNKNOWN": "?"}
NODE_SYMBOLS = {"up": "●", "late": "◌", "down": "✗", "out": "○", "spare": "◇"}
RATE_MIN_S = 1.0  # what took less says nothing about a rate
_COLOURS = {"HEALTHY": "32", "DEGRADED": "33", "AT_RISK": "31", "UNAVAILABLE": "31", "UNKNOWN": "35"}


def headline(status: Status) -> str:
    """One line: symbol, verdict, why it matters."""
    return f"{SYMBOLS[status.verdict]} {title(status)}  {status.summary}"


def title(status: Status) -> str:
    return status.verdict.replace("_", " ")


def repair_line(repair: RepairProgress, *, with_reason: bool = True) -> str:
    """ "running 62% · 18,907 of 30,511 objects · 184 MiB/s · ETA 24s"."""
    state = "moving" if repair.kind == "rebalance" and repair.state == "running" else repair.state
    parts: list[str] = [state]
    if repair.total and repair.state != "idle":
        parts[0] += f" {figures.percent(repair.done, repair.total)}"
        parts.append(f"{figures.count(repair.done)} of {figures.plural(repair.total, 'object')}")
    if repair.bytes_per_s > 0 and repair.state in ("running", "throttled"):
        parts.append(f"{figures.size(repair.bytes_per_s)}/s")
        parts.append("ETA " + (figures.duration(repair.eta_s) if repair.eta_s is not None else "—"))
    if repair.reason and with_reason:
        is_said = parts == [repair.state] and repair.reason.startswith(f"{repair.state} ")
        parts = [repair.reason] if is_said else [*parts, repair.reason]
    if repair.retrying:
        parts.append(f"retrying {repair.retrying}")
    if repair.failed:
        parts.append(f"failed {repair.failed}")
    return " · ".join(parts)


def kind_title(repair: RepairProgress) -> str:
    return "Rebalance" if repair.kind == "rebalance" else "Repair"


def budget(given: Budget) -> str:
    return f"{figures.size(given)}/s at most" if isinstance(given, int) else str(given)


def repair_details(survey: Survey) -> list[tuple[str, str]]:
    """(name, line): what `objstore repair status` says beyond the line above."""
    repair = survey.repair
    lines = [("budget", budget(repair.budget))]
    if repair.throttle:
        lines.append(("held back", repair.throttle))
    if repair.total and repair.state != "idle":
        done = f"{figures.size(repair.bytes_done)} of {figures.size(repair.bytes_total)}"
        lines.append(("written", f"{done}, {repair.items_per_s:g} segments/s"))
    if repair.misplaced and repair.kind == "repair":
        lines.append(("moves", f"{figures.plural(repair.misplaced, 'object')} to move home when all is whole"))
    if repair.rebalance_paused:
        lines.append(("moves", "paused by an operator: objstore repair resume --rebalance"))
    return lines


def receipt_line(receipt: Receipt) -> str:
    """What a finished repair or rebalance did."""
    seconds = max(0.001, (receipt.finished_ms - receipt.started_ms) / 1000)
    ended = time.strftime("%H:%M:%S", time.localtime(receipt.finished_ms / 1000))
    name, done = ("Rebalance", "moved") if receipt.kind == "rebalance" else ("Repair", "rebuilt")
    took = figures.duration(seconds)
    if seconds >= RATE_MIN_S:
        took += f" ({figures.size(receipt.bytes / seconds)}/s)"
    retries = f"{receipt.retries} {'retry' if receipt.retries == 1 else 'retries'}"
    return (
        f"{name} finished {ended}: {figures.plural(receipt.objects, 'object')}, {figures.size(receipt.bytes)} {done} "
        f"in {took}, {retries}"
    )


def objects_line(status: Status) -> str:
    counts = status.objects
    if counts is None:
        return "not known yet"
    parts = [f"{figures.plural(counts.total, 'object')}: {figures.count(counts.full)} full"]
    parts += [
        f"{figures.count(number)} {name}"
        for name, number in (
            ("reduced", counts.reduced), ("at the minimum", counts.minimum), ("unreadable", counts.unreadable)
        )
        if number
    ]  # fmt: skip
    return ", ".join(parts)


def space_line(status: Status) -> str:
    space = status.space
    if space is None:
        return "not known"
    parts = [f"{figures.size(space.used)} used of {figures.size(space.raw)} raw"]
    if space.left is not None:
        left = f"{figures.size(space.left)} usable left"
        if space.left_one_lost is not None:
            left += f", {figures.size(space.left_one_lost)} with one node lost"
        parts.append(left)
    return " · ".join(parts)


def next_commands(status: Status) -> list[str]:
    """Distinct, in order of the reasons; a few."""
    return list(dict.fromkeys(reason.next for reason in status.reasons if reason.next))[:4]


def render(status: Status, *, colour: bool = False) -> str:
    """The whole screen of `objstore status`."""
    head = headline(status)
    if colour:
        head = f"\x1b[1;{_COLOURS[status.verdict]}m{head}\x1b[0m"
    lines = [head, *(f"  {reason.code:<18}{reason.text}" for reason in status.reasons)]
    if status.code:
        lines.append(f"  {'objects':<18}{objects_line(status)}")
        if status.repair:
            lines.append(f"  {status.repair.kind:<18}{repair_line(status.repair)}" + _by(status))
        lines.append(f"  {'space':<18}{space_line(status)}")
        lines.append(f"  {'gateways':<18}{_processes(status)}")
    if status.nodes:
        lines += ["", *_node_table(status.nodes)]
    if commands := next_commands(status):
        lines += ["", "Next: " + "\n      ".join(commands)]
    return "\n".join(lines)


def _by(status: Status) -> str:
    return f"  (by {status.leader})" if status.leader else ""


def _processes(status: Status) -> str:
    return "  ".join(f"{g.name} http://{g.address} {g.state}" for g in status.gateways) or "none"


def fill(node: NodeStatus) -> str:
    """How much of its capacity is used."""
    if node.used_bytes is None or not node.capacity_bytes:
        return "-"
    return figures.percent(node.used_bytes, node.capacity_bytes)


def _node_table(nodes: list[NodeStatus]) -> list[str]:
    rows = [("Node", "State", "Zone", "Used", "Full", "Missing", "Address")]
    rows += [
        (
            node.name,
            f"{NODE_SYMBOLS[node.state]} {node.state}",
            node.zone,
            "-" if node.used_bytes is None else figures.size(node.used_bytes),
            fill(node),
            "-" if node.missing is None else figures.count(node.missing),
            node.address or "-",
        )
        for node in nodes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

"""The status as a live screen (rich), for `objstore watch` and `objstore demo`. Text objects only, never markup:
object names and reasons may hold brackets."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from objstore.admin import figures, text
from objstore.admin.status import NodeStatus, Status
from objstore.model.survey import RepairProgress

WIDTH = 88
_NARROW = 72
_REASONS_SHOWN = 4
_EVENTS_SHOWN = 4
_STYLES = {
    "HEALTHY": "bold green",
    "DEGRADED": "bold yellow",
    "AT_RISK": "bold red",
    "UNAVAILABLE": "bold red",
    "UNKNOWN": "bold magenta",
}
_NODE_STYLES = {"up": "green", "late": "yellow", "down": "bold red", "out": "red", "spare": "cyan"}
_REPAIR_STYLES = {
    "idle": "green",
    "waiting": "yellow",
    "running": "cyan",
    "throttled": "cyan",
    "paused": "yellow",
    "blocked": "bold red",
    "failed": "bold red",
}


def render(status: Status, *, baseline: Status | None = None, width: int = WIDTH, footer: str = "q quit") -> Panel:
    """`baseline`: an earlier status; the histogram shows the change since then."""
    width = min(width, WIDTH)
    blocks: list[RenderableType] = [_verdict(status)]
    if status.code:
        if status.repair:
            blocks += ["", _repair(status, status.repair, width)]
        if status.objects:
            blocks += ["", _redundancy(status, baseline, width)]
    if status.nodes:
        blocks += ["", _nodes(status.nodes, width)]
    if status.events:
        blocks += ["", _events(status)]
    title = f"objstore · EC {status.code} · epoch {status.epoch}" if status.code else "objstore"
    return Panel(Group(*blocks), title=title, subtitle=footer, width=width, border_style="dim")


def bar(part: float, whole: float, width: int) -> str:
    """Empty only at nothing, full only at all."""
    if whole <= 0 or part <= 0:
        return "░" * width
    cells = width if part >= whole else max(1, min(width - 1, int(width * part / whole)))
    return "█" * cells + "░" * (width - cells)


def _verdict(status: Status) -> Text:
    lines = Text(no_wrap=False)
    lines.append(f"{text.SYMBOLS[status.verdict]} {text.title(status)}", _STYLES[status.verdict])
    lines.append(f"  {status.summary}")
    if status.as_of_ms is not None:
        lines.append(f" · seen {figures.duration((status.at_ms - status.as_of_ms) / 1000)} ago", "dim")
    for reason in status.reasons[:_REASONS_SHOWN]:
        lines.append(f"\n{reason.code:<17}", "bold")
        lines.append(reason.text)
    if (more := len(status.reasons) - _REASONS_SHOWN) > 0:
        lines.append(f"\n… and {more} more: objstore status", "dim")
    return lines


def _repair(status: Status, repair: RepairProgress, width: int) -> Text:
    lines = Text()
    lines.append(f"{text.kind_title(repair)}  ", "bold")
    style = _REPAIR_STYLES[repair.state]
    if repair.total and repair.state not in ("idle", "waiting"):
        lines.append(bar(repair.done, repair.total, width - 62), style)
        lines.append("  ")
    lines.append(text.repair_line(repair, with_reason=False), style)
    if status.leader:
        lines.append(f" · by {status.leader}", "dim")
    if repair.reason:
        lines.append(f"\n        {repair.reason}")
    if repair.state in ("running", "throttled"):
        more = f"{figures.size(repair.bytes_done)} of {figures.size(repair.bytes_total)}"
        more += f" · budget {text.budget(repair.budget)}"
        if repair.throttle and repair.throttle != repair.reason:
            more += f" · {repair.throttle}"
        lines.append(f"\n        {more}", "dim")
    if repair.misplaced and repair.kind == "repair":
        lines.append(f"\n        {figures.plural(repair.misplaced, 'object')} to move home when all is whole", "dim")
    if repair.state == "idle" and status.receipt:
        lines.append(f"\n        {text.receipt_line(status.receipt)}", "dim")
    return lines


def _redundancy(status: Status, baseline: Status | None, width: int) -> Table:
    k, _, m = status.code.partition("+")
    needed, shards = int(k), int(k) + int(m)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Redundancy (shards readable)", no_wrap=True)
    table.add_column("objects", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("since start" if baseline else "", justify="right")
    total = max(1, sum(status.redundancy))
    for label, number, before, style in _buckets(status, baseline, needed, shards):
        change = f"{number - before:+,}" if baseline and number != before else "·" if baseline else ""
        table.add_row(
            Text(label), figures.count(number), Text(bar(number, total, max(8, width - 62)), style), Text(change, "dim")
        )
    return table


def _buckets(status: Status, baseline: Status | None, needed: int, shards: int) -> list[tuple[str, int, int, str]]:
    """(label, objects now, objects before, style) from full redundancy down to unreadable."""

    def at(of: Status | None, low: int, high: int) -> int:
        return sum((of.redundancy if of else [])[low : high + 1])

    rows = []
    for level in range(shards, needed - 1, -1):
        margin = level - needed
        if level == shards:
            label, style = "full", "green"
        else:
            label, style = (f"can lose {margin} more", "yellow") if margin else ("minimum, no margin", "red")
        rows.append((f"{level}/{shards} {label}", at(status, level, level), at(baseline, level, level), style))
    rows.append((f"<{needed} unreadable now", at(status, 0, needed - 1), at(baseline, 0, needed - 1), "bold red"))
    return rows


def _nodes(nodes: list[NodeStatus], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    wide = width >= _NARROW
    for name in (
        ("Node", "State", "Zone", "Used", "", "Full", "Missing", "Address")
        if wide
        else ("Node", "State", "Used", "Full", "Missing")
    ):
        table.add_column(name, justify="right" if name in ("Used", "Full", "Missing") else "left", no_wrap=True)
    most = max((node.used_bytes or 0 for node in nodes), default=0)
    for node in nodes:
        state = Text(f"{text.NODE_SYMBOLS[node.state]} {node.state}", _NODE_STYLES[node.state])
        used = "-" if node.used_bytes is None else figures.size(node.used_bytes)
        missing = "-" if node.missing is None else figures.count(node.missing)
        if wide:
            share = Text(bar(node.used_bytes or 0, most, 10), "blue")  # of the fullest: how even it is
            table.add_row(node.name, state, node.zone, used, share, text.fill(node), missing, node.address or "-")
        else:
            table.add_row(node.name, state, used, text.fill(node), missing)
    return table


def _events(status: Status) -> Text:
    lines = []
    for event in reversed(status.events[-_EVENTS_SHOWN:]):
        lines.append(f"{time.strftime('%H:%M:%S', time.localtime(event.at_ms / 1000))} {event.text}")
    return Text("\n".join(lines), "dim")

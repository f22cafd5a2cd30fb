"""How a plan looks: what moves and how long it takes, what it leads to, what is at risk. Words and numbers, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from objstore.admin import figures
from objstore.cluster.topology import Judged, Outlook
from objstore.model.plan import Plan, Resize, describe
from objstore.model.survey import ObjectCounts, Survey
from objstore.placement.preview import Preview
from objstore.placement.safety import Refusal

MEASURED_MIN_BYTES = 1 << 20  # less says nothing about a rate


class Rate(msgspec.Struct, frozen=True):
    bytes_per_s: float
    source: str


class PlanReport(msgspec.Struct, frozen=True):
    """What --json prints. `can_force`: every refusal may be overridden by --force-data-loss."""

    revision: int
    state: str  # none | staged | applied | begun
    changes: list[str]
    epoch: int
    preview: Preview | None = None
    rate: Rate | None = None
    seconds: float | None = None
    refused: list[str] = []
    can_force: bool = False
    objects: ObjectCounts | None = None
    min_readable: int | None = None  # shards of the object that has fewest
    under_way: str = ""
    format: int = 1


def rate_of(survey: Survey | None, configured: object) -> Rate | None:
    """How fast data moves: as measured now, else as in the largest repair of late, else as configured."""
    if survey is not None and survey.repair.bytes_per_s > 0:
        return Rate(survey.repair.bytes_per_s, "as measured now")
    receipts = [*survey.receipts, survey.receipt] if survey is not None else []
    # In the largest the time from the first look to the last weighs least.
    largest = max((one for one in receipts if one is not None), key=lambda one: one.bytes, default=None)
    if largest is not None and largest.bytes >= MEASURED_MIN_BYTES and largest.finished_ms > largest.started_ms:
        seconds = largest.worked_s or (largest.finished_ms - largest.started_ms) / 1000
        return Rate(largest.bytes / seconds, f"as measured in a recent {largest.kind}")
    if isinstance(configured, int) and configured > 0:
        return Rate(float(configured), "as configured")
    return None


def min_readable(survey: Survey | None) -> int | None:
    if survey is None or not any(survey.redundancy):
        return None
    return next(level for level, count in enumerate(survey.redundancy) if count)


def report(seen: Outlook, judged: Judged | None, rate: Rate | None) -> PlanReport:
    plan = seen.plan if seen.plan is not None and seen.plan.id != seen.map.plan else None
    seconds = judged.preview.bytes_moved / rate.bytes_per_s if judged is not None and rate is not None else None
    refused = judged.refusals if judged is not None else []
    return PlanReport(
        revision=seen.revision,
        state=plan.state if plan is not None else "none",
        changes=[describe(change) for change in plan.changes] if plan is not None else [],
        epoch=seen.map.newest.epoch,
        preview=judged.preview if judged is not None else None,
        rate=rate,
        seconds=round(seconds, 1) if seconds is not None else None,
        refused=[one.text for one in refused],
        can_force=bool(refused) and all(one.can_force for one in refused),
        objects=seen.survey.objects if seen.survey is not None else None,
        min_readable=min_readable(seen.survey),
        under_way=under_way(seen),
    )


def under_way(seen: Outlook) -> str:
    """Of a layout change that has begun, or of what is still to be moved after it; "" when all is done."""
    if seen.map.next is not None:
        synced = sum(byte.bit_count() for byte in seen.map.synced)
        return f"metadata moves to layout {seen.map.next.epoch}: {figures.percent(synced, seen.map.partitions)}"
    if seen.survey is None or seen.survey.epoch != seen.map.newest.epoch:
        return ""
    repair = seen.survey.repair
    if repair.state == "idle":
        return ""
    done = f"{figures.percent(repair.done, repair.total)} of {figures.plural(repair.total, 'object')}"
    rate = f", {figures.size(repair.bytes_per_s)}/s" if repair.bytes_per_s else ""
    left = f", {figures.duration(repair.eta_s)} left" if repair.eta_s is not None else ""
    return f"{repair.kind} {repair.state}: {done}{rate}{left}" + (f" ({repair.reason})" if repair.reason else "")


def render(seen: Outlook, judged: Judged | None, rate: Rate | None) -> str:
    shown = report(seen, judged, rate)
    plan = seen.plan if shown.state != "none" else None
    if plan is None or judged is None:
        lines = [f"no plan is staged · revision {shown.revision} · layout {shown.epoch}"]
        if shown.under_way:
            lines.append(shown.under_way)
        return "\n".join([*lines, "Next: objstore node list"])
    lines = [f"plan · revision {shown.revision} · {shown.state} · on layout {shown.epoch}", ""]
    lines += [f"  {_change(change)}" for change in _changes(plan)]
    lines += ["", *_movement(judged.preview, rate), "", *node_table(judged.preview), "", *_balance(judged.preview)]
    lines += _risk(seen)
    if shown.under_way:
        lines.append(f"under way: {shown.under_way}")
    return "\n".join([*lines, "", *verdict(shown, judged.refusals)])


def _changes(plan: Plan) -> list[str]:
    return [
        f"resize {change.name} to {figures.size(change.capacity_bytes)}"
        if isinstance(change, Resize)
        else describe(change)
        for change in plan.changes
    ]


def _change(text: str) -> str:
    verb, _, rest = text.partition(" ")
    return f"{verb:<8}{rest}"


def _movement(shown: Preview, rate: Rate | None) -> list[str]:
    if not shown.slots_moved:
        return ["moves    no data"]
    part = shown.slots_moved / shown.slots
    least = shown.slots_min / shown.slots
    lines = [
        f"moves    {figures.size(shown.bytes_moved)}, {part:.1%} of the data; at least {least:.1%} must "
        f"(ratio {shown.ratio:.3f}); {shown.metadata_moved:.1%} of the metadata"
    ]
    if rate is None:
        return [*lines, "time     not known: nothing has been moved or rebuilt here yet"]
    seconds = shown.bytes_moved / rate.bytes_per_s
    return [*lines, f"time     about {figures.duration(seconds)} at {figures.size(rate.bytes_per_s)}/s ({rate.source})"]


def node_table(shown: Preview) -> list[str]:
    rows = [("node", "zone", "capacity", "share now", "after", "in", "out", "used after")]
    for node in shown.nodes:
        used = f"{max(0.0, node.fill_after):.0%}" if node.used_bytes is not None else "-"
        rows.append(
            (
                node.name,
                node.zone,
                figures.size(node.capacity_bytes),
                f"{node.share_before:.2%}",
                f"{node.share_after:.2%}",
                figures.size(node.bytes_in) if node.bytes_in else "-",
                figures.size(node.bytes_out) if node.bytes_out else "-",
                used,
            )
        )
    return table(rows, left=2)


def table(rows: Sequence[tuple[str, ...]], *, left: int) -> list[str]:
    """The first `left` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            f"{text:<{width}}" if i < left else f"{text:>{width}}"
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _balance(shown: Preview) -> list[str]:
    return [
        f"balance  fullest {shown.fullest_before:.3f} -> {shown.fullest_after:.3f} of its fair share, "
        f"emptiest {shown.emptiest_after:.3f}; at most {shown.zone_worst_after} "
        f"{'shard' if shown.zone_worst_after == 1 else 'shards'} of an object in one zone"
    ]


def _risk(seen: Outlook) -> list[str]:
    survey = seen.survey
    if survey is None:
        return ["risk     not known: no repairer has looked at the data lately"]
    fewest, code = min_readable(survey), seen.map.code
    if fewest is None:
        return ["risk     none: there are no objects"]
    low = survey.objects.total - survey.objects.full
    text = f"every object has {fewest} of {code.shards} shards or more now, {code.k} are needed"
    lines = [f"risk     {text}; each shard is copied and verified before the old one goes"]
    if low:
        lines.append(f"         {figures.plural(low, 'object')} of {survey.objects.total:,} are not at full redundancy")
    return lines


def verdict(shown: PlanReport, refused: list[Refusal]) -> list[str]:
    """What may be done now."""
    if shown.state != "staged":
        if not refused:
            return ["The repairer begins it. Follow it: objstore plan apply --wait   or: objstore watch"]
        return ["It waits:", *(f"  {one.text}" for one in refused), "Give it up: objstore plan discard"]
    if not refused:
        return [f"Next: objstore plan apply --if-rev {shown.revision}     else: objstore plan discard"]
    lines = ["It cannot be applied now:", *(f"  {one.text}" for one in refused)]
    return [*lines, "Next: mend that, or wait, and look again with objstore plan show     else: objstore plan discard"]

"""Results as lines of a table, and two endpoints beside each other as ratios. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType

from objstore.bench import plot
from objstore.bench.model import Measured, Phase, Result

CLIENT_BUSY = 0.85  # of a core and process: from here on the load itself may be the limit
_LIMITS = {"put": "md5 MB/s", "get": "loopback MB/s", "degraded": "loopback MB/s"}  # what bounds large objects
_HEAD = (
    "op", "size", "conc", "op/s", "MiB/s", "p50", "p90", "p99", "p99.9", "max", "TTFB", "µs CPU/op", "MiB/CPU s",
    "errors",
)  # fmt: skip


def size_text(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def milliseconds(value: float) -> str:
    if value <= 0:
        return "-"
    if value < 10:
        return f"{value:.1f}ms"
    return f"{value:.0f}ms" if value < 1000 else f"{value / 1000:.1f}s"


def table(measured: Sequence[Measured]) -> list[str]:
    """One line per phase. CPU is that of the server, "-" where its processes are not known."""
    return aligned([_HEAD, *(_row(one) for one in measured)])


def _row(one: Measured) -> tuple[str, ...]:
    phase, found = one.phase, one.latency
    cpu = one.server_cpu_s
    errors = str(sum(one.errors.values())) + (f" ({one.retried} retried)" if one.retried else "")
    return (
        phase.operation, size_text(phase.size), str(phase.connections), f"{one.ops_per_s:,.0f}",
        f"{one.bytes_per_s / (1 << 20):,.1f}" if one.bytes else "-",
        *map(milliseconds, (found.p50, found.p90, found.p99, found.p999, found.longest)),
        milliseconds(one.first_byte.p50),
        f"{cpu / one.ops * 1e6:,.0f}" if cpu is not None and one.ops else "-",
        f"{one.bytes / (1 << 20) / cpu:,.0f}" if cpu and one.bytes else "-",
        errors,
    )  # fmt: skip


def notes(one: Measured, limits: Mapping[str, float] = MappingProxyType({})) -> list[str]:
    """What a reader must know of a phase beside its figures. `limits`: of the machine, as in a result."""
    name = f"{one.phase.operation} {size_text(one.phase.size)}"
    found = []
    if one.phase.operation == "repair":
        found.append(f"{one.bytes / (1 << 20):,.0f} MiB of {one.ops:,} objects made again in {one.seconds:.1f} s")
        if one.before is not None and one.before.p99 and one.latency.p99:
            found.append(
                f"GETs beside it, {one.phase.rate:g} per second: p50 {milliseconds(one.before.p50)} before, "
                f"{milliseconds(one.latency.p50)} during; p99 {milliseconds(one.before.p99)} before, "
                f"{milliseconds(one.latency.p99)} during: {one.latency.p99 / one.before.p99:.2f} x"
            )
    elif one.series:
        rates = sorted(second.ops for second in one.series)
        found.append(f"seconds: fastest {rates[-1]:,} op/s, median {median(rates):,.0f}, slowest {rates[0]:,}")
    if one.keys:
        found.append(f"{one.keys / one.seconds:,.0f} keys/s")
    if one.verified or one.mismatches:
        found.append(f"verified by digest: {one.verified:,} objects, {one.mismatches:,} mismatches")
    limit = _LIMITS.get(one.phase.operation, "")
    if one.phase.size >= 1 << 20 and one.bytes and one.seconds and limits.get(limit):
        found.append(f"{one.bytes_per_s / 1e6:,.0f} MB/s = {one.bytes_per_s / 1e6 / limits[limit]:.2f} x {limit[:-5]}")
    busy = one.client_cpu_s / (one.seconds * one.processes) if one.seconds and one.processes else 0.0
    if one.ops and one.phase.operation != "repair":
        cost = one.client_cpu_s / one.ops * 1e6
        text = f"the load used {busy:.0%} of a core per process, {cost:,.0f} µs per operation"
        if one.server_cpu_s:
            text += f", {one.client_cpu_s / one.server_cpu_s:.0%} of the server's"
        found.append(text + ("; it may be the limit: more --processes" if busy > CLIENT_BUSY else ""))
    if one.server_rss_bytes:
        found.append(f"the server holds {one.server_rss_bytes / (1 << 20):,.0f} MiB")
    found += [f"{count:,} x {what}" for what, count in sorted(one.errors.items())]
    found += [f"at {mark.at_s:.1f} s: {mark.text}" for mark in one.marks]
    found += ["ended early"] if one.early else []
    return [f"{name}: {text}" for text in found]


def whole(result: Result, *, plots: bool = False) -> list[str]:
    """`plots`: throughput over time of every phase, not only of those in which something happened."""
    lines = [f"{result.endpoint}  {result.at}" + ("  (ended early: partial)" if result.partial else "")]
    lines += ["  ".join(f"{name} {value}" for name, value in result.environment.items()), ""]
    lines += table(result.measured)
    for one in result.measured:
        lines += notes(one, result.limits)
        if plots or one.marks:
            lines += plotted(one)
    if result.limits:
        limits = "  ".join(f"{name} {value:,.0f}" for name, value in result.limits.items())
        lines += ["", f"this machine in the same run: {limits}"]
    return lines


def plotted(one: Measured) -> list[str]:
    curve, unit = throughput(one)
    drawn = plot.draw(curve, one.marks, unit=f"{unit} {title(one.phase)}", end_s=max(one.seconds, len(one.series)))
    return ["", *drawn, ""] if drawn else []


def throughput(one: Measured) -> tuple[list[tuple[float, float]], str]:
    """(second, figure) in the middle of each second, and what is counted: bytes where they are many."""
    moved = one.bytes > 0 and one.phase.size >= 1 << 20
    scale = 1 << 20 if moved else 1
    curve = [(second.at_s + 0.5, (second.bytes if moved else second.ops) / scale) for second in one.series]
    return curve, "MiB/s" if moved else "op/s"


def title(phase: Phase) -> str:
    found = f"{phase.operation} {size_text(phase.size)}, {phase.connections} connections"
    return found + (f", {phase.rate:g} op/s wanted" if phase.rate else "")


# --- two endpoints --------------------------------------------------------------------------------------------

_RATIOS = (
    "op",
    "size",
    "conc",
    "rounds",
    "A op/s",
    "B op/s",
    "A/B",
    "spread",
    "A p99",
    "B p99",
    "A CPU/op",
    "B CPU/op",
)


def compared(first: Sequence[Measured], second: Sequence[Measured]) -> list[str]:
    """Rounds of the same phases, first[i] measured beside second[i], if it was. A/B is the median of the ratios of the
    rounds; the spread is from the least to the greatest of them."""
    rows: list[tuple[str, ...]] = [_RATIOS]
    for phase in dict.fromkeys(_kind(one.phase) for one in first):
        pairs = [
            (a, b) for a, b in zip(first, second, strict=False) if _kind(a.phase) == phase and a.ops and b.ops
        ]  # fmt: skip
        if not pairs:
            rows.append((phase[0], size_text(phase[1]), str(phase[2]), "0", *["-"] * 8))
            continue
        ratios = sorted(a.ops_per_s / b.ops_per_s for a, b in pairs)
        of_a, of_b = [a for a, _ in pairs], [b for _, b in pairs]
        rows.append(
            (
                phase[0], size_text(phase[1]), str(phase[2]), str(len(pairs)),
                f"{median(one.ops_per_s for one in of_a):,.0f}", f"{median(one.ops_per_s for one in of_b):,.0f}",
                f"{median(ratios):.2f}", f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
                milliseconds(median(one.latency.p99 for one in of_a)),
                milliseconds(median(one.latency.p99 for one in of_b)),
                _cpu(of_a), _cpu(of_b),
            )
        )  # fmt: skip
    return aligned(rows)


def _kind(phase: Phase) -> tuple[str, int, int]:
    return phase.operation, phase.size, phase.connections


def _cpu(found: Sequence[Measured]) -> str:
    known = [one.server_cpu_s / one.ops * 1e6 for one in found if one.server_cpu_s is not None]
    return f"{median(known):,.0f} µs" if known else "-"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in
                  enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip

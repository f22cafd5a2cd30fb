"""Numbers as people read them: bytes, rates, durations, counts."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """1536 -> "1.5 KiB". Binary units, three digits at most."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    text = f"{count:.1f}" if unit and count < 99.95 else f"{count:.0f}"
    return f"{text.removesuffix('.0')} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """75 -> "1m 15s"."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def count(number: int) -> str:
    """30511 -> "30,511"."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """(1, "node") -> "1 node", (2, "node") -> "2 nodes"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(part: float, whole: float) -> str:
    """Never "100%" before it is all, never "0%" once it is something."""
    if whole <= 0 or part >= whole:
        return "100%"
    if part <= 0:
        return "0%"
    return f"{min(99, max(1, int(100 * part / whole)))}%"

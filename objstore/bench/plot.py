"""A curve over time as lines of text, in Braille dots, with marks below it where something happened. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from objstore.bench.model import Mark

WIDTH, HEIGHT = 64, 6  # characters, of two by four dots each
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, by row from above
_EMPTY = 0x2800


def draw(values: Sequence[tuple[float, float]], marks: Sequence[Mark], *, unit: str, end_s: float) -> list[str]:
    """`values`: (seconds, figure), ascending; the axis goes from 0 s to `end_s`. Needs two of them."""
    if len(values) < 2 or end_s <= 0:
        return []
    top = _round_up(max(value for _, value in values)) or 1.0
    cells = [[_EMPTY] * WIDTH for _ in range(HEIGHT)]
    last: int | None = None
    for x in range(WIDTH * 2):
        found = _at(values, (x + 0.5) / (WIDTH * 2) * end_s)
        if found is None:
            last = None
            continue
        y = round((1 - found / top) * (HEIGHT * 4 - 1))
        low, high = (y, y) if last is None else (min(y, last), max(y, last))
        for one in range(low, high + 1):
            cells[one // 4][x // 2] |= _DOTS[x % 2][one % 4]
        last = y
    labels = [f"{top * (HEIGHT - row) / HEIGHT:,.0f}" for row in range(HEIGHT)]
    wide = max(map(len, [*labels, "0"]))
    lines = [unit]
    for row, label in enumerate(labels):
        lines.append(f"{label:>{wide}} ┤{''.join(map(chr, cells[row]))}".replace(chr(_EMPTY), " ").rstrip())
    axis = ["─"] * WIDTH
    placed = sorted((min(WIDTH - 1, max(0, int(mark.at_s / end_s * WIDTH))), mark.text) for mark in marks)
    for place, _ in placed:
        axis[place] = "▲"
    lines.append(f"{'0':>{wide}} └{''.join(axis)} {end_s:,.0f} s")
    for place, text in placed:
        lines.append(" " * (wide + 2 + min(place, max(0, WIDTH - len(text)))) + text)
    return lines


def _at(values: Sequence[tuple[float, float]], at_s: float) -> float | None:
    """Between the points on both sides; None: outside of them."""
    for (left, low), (right, high) in pairwise(values):
        if left <= at_s <= right:
            return low + (high - low) * (at_s - left) / (right - left) if right > left else high
    return None


def _round_up(value: float) -> float:
    """To a figure with which an axis of as many lines has readable labels."""
    step = 1.0
    while step * HEIGHT < value:
        step *= 10
    for part in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0):
        if value <= step * part * HEIGHT:
            return step * part * HEIGHT
    return value

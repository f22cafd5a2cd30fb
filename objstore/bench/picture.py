"""A result as a picture: throughput over time, with what happened to the cluster marked.

With matplotlib, which is an extra: `pip install objstore[picture]`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from objstore.bench.model import Measured, Result
from objstore.bench.report import milliseconds, throughput, title
from objstore.model.errors import InvalidRequest

_SUFFIXES = (".svg", ".png", ".pdf")
_COLOURS = ("#1f6fb2", "#d9822b", "#3a9a5b", "#8a5ab5", "#b23b3b", "#5b6770")
_INK = "#333333"


def check(path: Path) -> None:
    """Before anything is measured. InvalidRequest."""
    if path.suffix not in _SUFFIXES:
        raise InvalidRequest(f"--picture {path}: its name must end in one of {' '.join(_SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise InvalidRequest("pictures need matplotlib: pip install 'objstore[picture]'") from None


def draw(results: Sequence[Result], path: Path) -> None:
    """One panel per phase, one curve per result; rounds of one phase share a panel."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels = _panels(results)
    style: dict[Any, Any] = {"font.size": 9, "axes.edgecolor": "#bbbbbb", "axes.labelcolor": _INK, "xtick.color": _INK,
             "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    with mpl.rc_context(style):
        figure, axes = pyplot.subplots(
            len(panels), 1, figsize=(9.5, 2.6 * len(panels) + 0.7), squeeze=False, layout="constrained"
        )
        for axis, curves in zip(axes[:, 0], panels, strict=True):
            _panel(axis, curves, [result.endpoint for result in results])
        axes[-1, 0].set_xlabel("seconds since the measured time began")
        first = results[0]
        about = ", ".join(f"{name} {value}" for name, value in first.environment.items())
        names = " and ".join(dict.fromkeys(result.endpoint for result in results))
        figure.suptitle(f"{names}    {first.at}\n{about}", fontsize=9, color=_INK, x=0.01, ha="left")
        figure.savefig(path, dpi=130)
        pyplot.close(figure)


def _panels(results: Sequence[Result]) -> list[list[list[Measured]]]:
    """By phase, by result: its rounds."""
    by_result = []
    for result in results:
        found: dict[tuple[str, int, int], list[Measured]] = {}
        for one in result.measured:
            found.setdefault((one.phase.operation, one.phase.size, one.phase.connections), []).append(one)
        by_result.append(found)
    kinds = dict.fromkeys(kind for found in by_result for kind in found)
    return [[found.get(kind, []) for found in by_result] for kind in kinds]


def _panel(axis: Any, curves: Sequence[Sequence[Measured]], names: Sequence[str]) -> None:
    some = next(rounds[0] for rounds in curves if rounds)
    unit = throughput(some)[1]
    for place, rounds in enumerate(curves):
        name, colour = names[place], _COLOURS[place % len(_COLOURS)]
        for number, one in enumerate(rounds):
            curve, _ = throughput(one)
            axis.plot(
                [at for at, _ in curve], [value for _, value in curve], color=colour, linewidth=1.8,
                marker="o" if len(curve) < 3 else None, markersize=3, alpha=max(0.35, 1 - 0.2 * number),
                label=_legend(one, name, len(rounds)) if not number else None,
            )  # fmt: skip
            for row, mark in enumerate(one.marks):
                axis.axvline(mark.at_s, linestyle="--", linewidth=1, color="#b23b3b")
                axis.annotate(
                    f"{mark.text} ({mark.at_s:.1f} s)", (mark.at_s, 0.04 + 0.11 * (row % 4)), xytext=(4, 0),
                    xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8, color="#b23b3b",
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
                )  # fmt: skip
    axis.set_title(title(some.phase), loc="left", fontsize=10, fontweight="bold", color=_INK)
    axis.set_ylabel(f"{unit} made again" if some.phase.operation == "repair" else unit)
    axis.set_ylim(bottom=0, top=axis.get_ylim()[1] * 1.08)
    axis.set_xlim(left=0)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else f"{value:,.1f}")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1, fontsize=8, frameon=False)


def _legend(one: Measured, name: str, rounds: int) -> str:
    rate = f"{one.bytes_per_s / (1 << 20):,.0f} MiB/s" if one.phase.size >= 1 << 20 and one.bytes else ""
    rate = rate or f"{one.ops_per_s:,.0f} op/s"
    p50 = f"p50 {milliseconds(one.latency.p50)}, p99 {milliseconds(one.latency.p99)}" if one.latency.p50 else ""
    text = ", ".join(part for part in (rate, p50) if part)
    many = f" ({rounds} rounds; the first: {text})" if rounds > 1 else f" ({text})"
    return f"{name}{many}"

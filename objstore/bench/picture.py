"""A result as a picture: operations and bytes per second over time, with what happened to the cluster marked.

With matplotlib, which is an extra: `pip install objstore[picture]`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from objstore.bench.model import Result
from objstore.bench.report import size_text
from objstore.model.errors import InvalidRequest

_SUFFIXES = (".svg", ".png", ".pdf")


def check(path: Path) -> None:
    """Before anything is measured. InvalidRequest."""
    if path.suffix not in _SUFFIXES:
        raise InvalidRequest(f"--picture {path}: its name must end in one of {' '.join(_SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise InvalidRequest("pictures need matplotlib: pip install 'objstore[picture]'") from None


def draw(results: Sequence[Result], path: Path) -> None:
    """One panel per phase, one line per result."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    count = max(len(result.measured) for result in results)
    figure, panels = pyplot.subplots(count, 1, figsize=(9, 2.4 * count + 0.6), squeeze=False, layout="constrained")
    for result in results:
        for panel, one in zip(panels[:, 0], result.measured, strict=False):
            moved = one.bytes > 0 and one.phase.size >= 1 << 20
            scale = 1 << 20 if moved else 1
            values = [(second.bytes if moved else second.ops) / scale for second in one.series]
            panel.plot([second.at_s + 0.5 for second in one.series], values, label=result.endpoint)
            panel.set_title(f"{one.phase.operation} {size_text(one.phase.size)}, {one.phase.connections} connections")
            panel.set_ylabel("MiB/s" if moved else "op/s")
            panel.set_ylim(bottom=0)
            for mark in one.marks:
                panel.axvline(mark.at_s, linestyle=":", color="tab:red")
                panel.annotate(mark.text, (mark.at_s, 0), rotation=90, fontsize=7, va="bottom")
    panels[-1, 0].set_xlabel("seconds")
    if len(results) > 1:
        panels[0, 0].legend()
    figure.savefig(path)
    pyplot.close(figure)

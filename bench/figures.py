"""What all benches here print: figures, each beside the limit of the machine that it is compared with.

A limit is measured in the same run (objstore/bench/limits.py) and in the unit of the figure, so that their ratio says
how much of the machine is used, whatever machine it is and whatever else it does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from objstore.bench.report import aligned


@dataclass(frozen=True)
class Figure:
    what: str
    value: float
    unit: str
    limit: str = ""  # what `of` is
    of: float = 0.0  # in the same unit

    @property
    def ratio(self) -> float | None:
        return self.value / self.of if self.of else None


def parser(about: str | None, *, seconds: float = 0.5) -> argparse.ArgumentParser:
    """With the flags that every bench has. `about`: its docstring."""
    first, _, rest = (about or "").partition("\n\n")
    found = argparse.ArgumentParser(description=first, epilog=rest)
    found.add_argument("--seconds", type=float, default=seconds, help=f"for each figure (default: {seconds:g})")
    found.add_argument("--json", action="store_true", help="as JSON")
    return found


def show(title: str, figures: Sequence[Figure], *, as_json: bool) -> None:
    sys.stdout.write("\n".join(lines(title, figures, as_json=as_json)) + "\n")


def lines(title: str, figures: Sequence[Figure], *, as_json: bool) -> list[str]:
    if as_json:
        rows = [{**asdict(one), "ratio": one.ratio} for one in figures]
        return [json.dumps({"title": title, "figures": rows}, indent=1)]
    rows_ = [("", "figure", "unit", "limit", "", "ratio")]
    for one in figures:
        ratio = "" if one.ratio is None else _number(one.ratio)
        rows_.append((one.what, _number(one.value), one.unit, one.limit, _number(one.of) if one.of else "", ratio))
    return [title, "", *aligned(rows_)]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"

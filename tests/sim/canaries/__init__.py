"""Canaries: bugs planted in the product's source, each of which a named search must find.

    canary.py     what a canary is
    planted_*.py  the canaries, by the part of the product that they spoil
    mutate.py     runs one search in a fresh interpreter in which one module is spoiled
    lanes.py      the searches, by name: seed -> what is wrong
    hunt.py       all of it: `python -m tests.sim --canaries`

Nothing here may import the product when this package is imported: `mutate` has to come first.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(names: Sequence[str] = (), *, limit: int = 0, jobs: int = 2) -> int:
    """Exit code of the hunt for these canaries; for all by default."""
    from tests.sim.canaries import hunt

    return hunt.main([*names, f"--limit={limit}", f"--jobs={jobs}"])

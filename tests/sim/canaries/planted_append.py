"""Bugs in appending to objects."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

APPEND = "objstore.engine.append"

CANARIES = (
    Canary(
        "append to any bytes of the same size",
        APPEND,
        (Edit("if found.version_id != base.id:", "if found.size != base.size:"),),
        "ambush appends",
        "INV-22: an append looks at the size alone, and brings back what was written anew meanwhile",
        limit=20,
        quick=True,
    ),
    Canary(
        "offset looked at before the change",
        APPEND,
        (Edit("found = check_base(current(state), base)", "found = current(state) or made"),),
        "ambush appends",
        "INV-22: two appends at one offset are both told that they were done",
        limit=20,
        quick=True,
    ),
    Canary(
        "old bytes of an append discarded with the new",
        APPEND,
        (
            Edit(
                "            self._writer.discard(stored.blobs)  # only a refusal",
                "            self._writer.discard(blobs)  # only a refusal",
            ),
        ),
        "ambush appends",
        "INV-7: a refused append takes the bytes away that the object has still",
        limit=20,
        quick=True,
    ),
    Canary(
        "append as old as its object",
        APPEND,
        (Edit("born=born_of(stored.blobs)", "born=born_of(made.blobs)"),),
        "pytest tests/unit/engine/test_append.py::test_only_what_an_append_brings_can_be_too_old",
        "INV-7: the age of an append is that of all bytes of the object, so that garbage collection ends all appends",
        limit=1,
        quick=True,
    ),
)

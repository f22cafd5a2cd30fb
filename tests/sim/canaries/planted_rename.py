"""Bugs in renaming objects."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

MOVING = "objstore.engine.moving"
MOVES = "objstore.engine.movestate"
RENAMING = "objstore.engine.renaming"
KEYSTATE = "objstore.engine.keystate"

CANARIES = (
    Canary(
        "lent blobs retired",
        KEYSTATE,
        (
            Edit(
                "kept = lent_ids(state) | {blob.id for version in versions for blob in version.blobs}",
                "kept = {blob.id for version in versions for blob in version.blobs}",
            ),
        ),
        "ambush renames",
        "INV-24: the source retires what it has lent, and garbage collection takes it from the target",
        limit=20,
        quick=True,
    ),
    Canary(
        "borrowed blobs retired",
        KEYSTATE,
        (
            Edit(
                "blobs = own_blobs(gone) if gone is not None else ()", "blobs = gone.blobs if gone is not None else ()"
            ),
        ),
        "ambush renames",
        "INV-24: whoever deletes a renamed object takes the bytes away that a name before it still shows",
        limit=30,
        quick=True,
    ),
    Canary(
        "lent to the first name only",
        RENAMING,
        (Edit("            for home, blobs in lent.items():", "            for home, blobs in ():"),),
        "ambush renames",
        "INV-24: what is renamed twice is not covered at its home, and goes with the name between",
        limit=20,
        quick=True,
    ),
    Canary(
        "taken back without a look at the other name",
        MOVING,
        (
            Edit(
                "return frozenset(blob.id for blob in lent.blobs if blob.id not in named)",
                "return frozenset(blob.id for blob in lent.blobs)",
            ),
        ),
        "ambush renames",
        "INV-24: the home takes back what the target names",
        limit=20,
        quick=True,
    ),
    Canary(
        "a reader believes the source",
        MOVING,
        (Edit("if has_arrived(there, going.id):\n                gone", "if False:\n                gone"),),
        "pytest tests/unit/engine/test_renaming.py::test_a_rename_that_was_cut_short_is_settled_by_who_needs_it",
        "INV-25: for a moment source and target both show the object",
        limit=1,
        quick=True,
    ),
    Canary(
        "writers do not wait for a rename",
        KEYSTATE,
        (
            Edit(
                "    if state.moves is not None and state.moves.leaving is not None:\n        raise",
                "    if False:\n        raise",
            ),
        ),
        "ambush renames",
        "INV-25: a write between the steps of a rename is taken away by it, or shown beside it",
        limit=30,
        quick=True,
    ),
    Canary(
        "given up without telling the target",
        MOVING,
        (Edit("beside(state, _NEVER, ids_floor=floor_above(id))", "Outcome(_NEVER)"),),
        "pytest tests/unit/engine/test_renaming.py::test_a_rename_that_was_given_up_cannot_come_late",
        "INV-25: a rename that was given up at the source comes late to the target",
        limit=1,
        quick=True,
    ),
    Canary(
        "stayed whatever became of it",
        MOVES,
        (Edit("if moves.leaving is None or moves.leaving.id != id:", "if moves.leaving is None:"),),
        "pytest tests/unit/engine/test_movestate.py",
        "INV-25: who settles a rename late undoes the next one",
        limit=1,
        quick=True,
    ),
    Canary(
        "a repeated token moves what came after",
        RENAMING,
        (Edit("if made != id:", "if False:"),),
        "pytest tests/unit/engine/test_renaming.py",
        "INV-25: a request that was done lets go of an object written under the old name since",
        limit=1,
        quick=True,
    ),
)

"""Bugs in repair, garbage collection and layout changes (objstore/repair), and in recovery."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

TRANSITION = "objstore.repair.transition"
ANTIENTROPY = "objstore.repair.antientropy"
GARBAGE = "objstore.repair.garbage"
TOMBSTONES = "objstore.repair.tombstones"
FORGETTING = "objstore.register.forgetting"
COMMIT = "objstore.node.commit"
PLANNING = "objstore.repair.planning"
SAFETY = "objstore.placement.safety"

CANARIES = (
    Canary(
        "sync from one acceptor",
        TRANSITION,
        (Edit('_need_majority(topology, "old", old, sources)', "sources = dict([*sources.items()][:1])"),),
        "ambush behind",
        "at a layout change the new owners get what one old owner holds, and not the newest of a majority",
        limit=30,
        quick=True,
    ),
    Canary(
        "sync does not settle",
        TRANSITION,
        (Edit("best, unsettled = _decide(sources)", "best, unsettled = _decide(sources)[0], {}"),),
        "pytest tests/unit/repair/test_transition.py",
        "at a layout change a value is copied although a rival's promise stands above it",
        limit=1,
    ),
    Canary(
        "map without compare-and-swap",
        TRANSITION,
        (
            Edit(
                "self._coordinator.put(MAP_KEY, encode_map(after), expected=before.revision)",
                "self._coordinator.put(MAP_KEY, encode_map(after))",
            ),
        ),
        "pytest tests/unit/repair/test_transition.py",
        "a leader publishes its map over one that it has not seen",
        limit=1,
    ),
    Canary(
        "orphan age zero",
        GARBAGE,
        (
            Edit(
                "horizon = self._ms_ago(self._settings.orphan_age_s)",
                "horizon = self._ms_ago(0.0)",
            ),
        ),
        "ambush slow_put",
        "fragments of a write that is still under way are taken for orphans",
        limit=5,
        quick=True,
    ),
    Canary(
        "garbage on not found",
        GARBAGE,
        (Edit('beside(state, b"dead", ids_floor=floor_above(blob))', 'Outcome(b"dead")'),),
        "ambush slow_put",
        "INV-7: fragments go because no register names them, and none is told that it must not do so later",
        limit=5,
    ),
    Canary(
        "tombstone by clock",
        TOMBSTONES,
        (
            Edit(
                "        owners = view.sets[0]\n",
                "        owners = [node for node in view.sets[0] if self._calls.is_up(node)]\n",
            ),
            Edit(
                "        for node in view.sets[0]:\n            look",
                "        for node in filter(self._calls.is_up, view.sets[0]):\n            look",
            ),
        ),
        "ambush ghost",
        "INV-11: a tombstone is forgotten because it is old, whether or not all owners have it",
        limit=50,
    ),
    Canary(
        "journal after the answer",
        COMMIT,
        (Edit("            journal.append(appended)\n", ""),),
        "pytest tests/unit/node/test_journal.py",
        "INV-12: a register is acknowledged that is in the index and not in the journal",
        limit=1,
    ),
    Canary(
        "plan by an old look",
        PLANNING,
        (Edit("survey = survey_since(self._found[1])", "survey = survey_since(0.0)"),),
        "pytest tests/unit/repair/test_planning.py",
        "INV-17: a member leaves because of a look at the data that began before its removal was asked for",
        limit=1,
    ),
    Canary(
        "plan carried out twice",
        PLANNING,
        (Edit("        if plan.id == now.plan:\n", "        if False:\n"),),
        "pytest tests/unit/repair/test_planning.py",
        "INV-17: a leader that finds a plan whose map was published already acts on it again",
        limit=1,
    ),
    Canary(
        "removed while it holds shards",
        SAFETY,
        (Edit("        if held.needed:\n", "        if held.needed > 1:\n"),),
        "pytest tests/unit/placement/test_plan.py",
        "INV-17: a member leaves the map although one fragment that it holds is needed",
        limit=1,
    ),
)

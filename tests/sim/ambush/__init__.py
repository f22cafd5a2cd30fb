"""Ambushes: situations that random faults meet too rarely, made likely. Seeded, and judged like any other run.

Each is a function from a seed to what is wrong; the product must come out of all of them with nothing wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.ambush.appends import appends
from tests.sim.ambush.buckets import buckets
from tests.sim.ambush.calm import calm
from tests.sim.ambush.layouts import behind, forgetting, ghost, lag
from tests.sim.ambush.losses import amnesia, blackout, handoff, rebuilt, rot, slow_put, thin
from tests.sim.ambush.notifications import notifications
from tests.sim.ambush.objects import lists, races, unknown
from tests.sim.ambush.quorums import clocks, counters, forgotten, glimpses, split, withdrawn
from tests.sim.ambush.renames import renames

AMBUSHES: dict[str, Callable[[int], list[str]]] = {
    "amnesia": amnesia,
    "appends": appends,
    "behind": behind,
    "blackout": blackout,
    "buckets": buckets,
    "clocks": clocks,
    "counters": counters,
    "forgetting": forgetting,
    "forgotten": forgotten,
    "ghost": ghost,
    "glimpses": glimpses,
    "handoff": handoff,
    "lag": lag,
    "lists": lists,
    "notifications": notifications,
    "races": races,
    "rebuilt": rebuilt,
    "renames": renames,
    "rot": rot,
    "slow_put": slow_put,
    "split": split,
    "thin": thin,
    "unknown": unknown,
    "withdrawn": withdrawn,
}

__all__ = ["AMBUSHES", "calm"]

"""Harm to the processes and disks of a cluster, drawn from a seed, never more at once than its code survives.

Away (killed, paused) or damaged may be m nodes at a time. Data are only destroyed while every object is whole, and what
was destroyed counts as damaged until every fragment of the node was verified and every object is whole again.
Gateways, repairers and the coordinator fall and come back as they like.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from objstore.local.folder import Folder
from objstore.model.errors import DeadlineExceeded
from objstore.testing.cluster import LocalCluster
from tests.process import damage
from tests.process.outages import Outages

PAST_TIMEOUTS_S = 7.0  # more than a lease, an election, a call or an operation may take
DESTROY_EVERY_S = (8.0, 20.0)
WHOLE_S = 120.0  # for all objects to be at full redundancy again after m nodes lost everything
COORDINATOR = "c1"


@dataclass(slots=True)
class Away:
    paused: bool
    until: float


@dataclass
class Faults:
    """Call `step` again and again from one thread, then `heal`."""

    cluster: LocalCluster
    outages: Outages
    chance: random.Random
    lost_nodes_max: int = 2
    say: Callable[[str], None] = lambda text: None
    counts: Counter[str] = field(default_factory=Counter)
    _away: dict[str, Away] = field(default_factory=dict)
    _damaged: set[str] = field(default_factory=set)
    _rest_until: float = 0.0
    _destroy_at: float = 0.0

    def step(self) -> None:
        """Bring back what is due, then perhaps do one more thing."""
        now = time.monotonic()
        for name in [name for name, away in self._away.items() if away.until <= now]:
            if name in self._away:
                self.bring_back(name)
        if now < self._rest_until:
            return
        self._rest_until = now + self.chance.uniform(0.2, 2.5)
        if self._damaged and self.chance.random() < 0.2:
            self.mend()
            return
        destroys = now > self._destroy_at and not self._damaged
        if destroys and not self._nodes_at_risk() and self._is_whole():
            self._destroy()
        elif not destroys and self.chance.random() < 0.55:  # else all nodes come back first
            self._take_node()
        else:
            self._take_other()

    # --- who falls ---

    def _take_node(self) -> None:
        free = [name for name in self.cluster.node_names if name not in self._away and name not in self._damaged]
        if len(self._nodes_at_risk()) < self.lost_nodes_max:
            self.take(self.chance.choice(free))

    def _take_other(self) -> None:
        others = [m.name for m in Folder(self.cluster.folder).running().members if m.role != "node"]
        free = [name for name in others if name not in self._away]
        if free:
            self.take(self.chance.choice(free))

    def _nodes_at_risk(self) -> set[str]:
        return self._damaged | set(self._away) & set(self.cluster.node_names)

    def take(self, name: str, *, paused: bool | None = None, seconds: float | None = None) -> None:
        """Kill or pause it for some time."""
        paused = self.chance.random() < 0.5 if paused is None else paused
        if seconds is None:
            seconds = self.chance.choice((0.3, 1.5, 4.0, PAST_TIMEOUTS_S))
        self.say(f"{'pause' if paused else 'kill'} {name} for {seconds:.1f} s")
        self.counts[f"{'pause' if paused else 'kill'} {name.rstrip('0123456789')}"] += 1
        self.outages.begin(name)
        (self.cluster.pause if paused else self.cluster.kill)(name)
        self._away[name] = Away(paused, time.monotonic() + seconds)

    def bring_back(self, name: str) -> None:
        away = self._away.pop(name)
        if away.paused:
            self.cluster.resume(name)
        else:
            if COORDINATOR in self._away:  # nobody gets to know the cluster without it
                self.bring_back(COORDINATOR)
            self.cluster.start(name)
        self.outages.end(name)
        self.say(f"{name} is back")

    def bring_back_all(self) -> None:
        for name in sorted(self._away):  # c1 first
            if name in self._away:
                self.bring_back(name)

    # --- what is destroyed ---

    def _is_whole(self) -> bool:
        return COORDINATOR not in self._away and self.cluster.status().is_whole

    def _destroy(self) -> None:
        names = self.chance.sample(self.cluster.node_names, self.chance.randint(1, self.lost_nodes_max))
        ways = (self._wipe, self._lose_index, self._rot, self._cut, self._unlink, self._swap)
        self.chance.choice(ways)(names)
        self._damaged |= set(names)
        self._destroy_at = time.monotonic() + self.chance.uniform(*DESTROY_EVERY_S)

    def _note(self, what: str, names: list[str]) -> None:
        self.say(f"{what} {' '.join(names)}")
        self.counts[what] += 1

    def _wipe(self, names: list[str]) -> None:
        self._note("wipe", names)
        self.cluster.wipe(*names)
        self._start_later(names)

    def _lose_index(self, names: list[str]) -> None:
        self._note("index lost", names)
        self.cluster.kill(*names)
        for name in names:
            shutil.rmtree(self.cluster.folder / "data" / name / "index")
        self._start_later(names)

    def _rot(self, names: list[str]) -> None:
        share = self.chance.choice((0.1, 1.0))
        flips = sum(damage.rot(v, self.chance, share) for name in names for v in self._volumes(name))
        self._note("bits flipped", [*names, f"({flips} fragments)"])

    def _cut(self, names: list[str]) -> None:
        self._note("volumes cut", names)
        for name in names:
            for volume in self._volumes(name):
                damage.cut(volume, self.chance)

    def _unlink(self, names: list[str]) -> None:
        self._note("volumes deleted", names)
        for name in names:
            for volume in self._volumes(name):
                volume.unlink()

    def _swap(self, names: list[str]) -> None:
        self._note("volumes swapped", names)
        self.cluster.kill(*names)
        files = [volume for name in names for volume in self._volumes(name)]
        if len(files) > 1:
            damage.swap(files[0], files[-1])
        self._start_later(names)

    def _volumes(self, name: str) -> list[Path]:
        return damage.volumes(self.cluster.folder / "data" / name)

    def _start_later(self, names: list[str]) -> None:
        for name in names:
            self._away[name] = Away(False, time.monotonic() + self.chance.choice((0.0, 1.0, 5.0)))
            self.outages.begin(name)

    # --- healing ---

    def mend(self) -> None:
        """Until what was destroyed is whole again; nobody else falls. DeadlineExceeded: it does not get there."""
        self.bring_back_all()
        self.cluster.wait(lambda s: all(n.state == "up" for n in s.nodes), WHOLE_S, "all up")
        found = damage.scrub(self.cluster, *self._damaged)
        self._wait_whole()
        again = damage.scrub(self.cluster, *self._damaged)
        if again:
            raise DeadlineExceeded(f"{again} fragments on {self._damaged} are damaged after repair")
        self.say(f"mended {' '.join(sorted(self._damaged))}: {found} damaged fragments had not been noticed before")
        self.counts["found by scrub"] += found
        self._damaged.clear()

    def heal(self) -> None:
        self.bring_back_all()
        if self._damaged:
            self.mend()
        self._wait_whole()
        self.cluster.wait_healthy(WHOLE_S)

    def _wait_whole(self) -> None:
        """By a survey that began after now: one from before knows nothing of what was just found."""
        since = self.cluster.status().at_ms + 1000
        self.cluster.wait(lambda s: s.is_whole and (s.as_of_ms or 0) > since, WHOLE_S, "whole")

"""A seed's scenario: sizes, settings, workload, faults. Pure; the same seed draws the same plan.

Seeds differ in kind, not only in number: each draws a few families of faults, so that some runs are about clocks,
others about disks or layouts, and some about everything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from objstore.model.cluster import ErasureCode
from tests.sim.network import NetworkFaults

CODES = ((4, 2), (4, 2), (2, 1), (3, 2))
HOUR_MS = 3_600_000
SKEWS_MS = (-26 * HOUR_MS, -HOUR_MS, -3000, 3000, HOUR_MS, 26 * HOUR_MS)


@dataclass(frozen=True)
class Fault:
    """`who`: a process; two for `block`, from and to. Skipped if budget or circumstances forbid it at its time."""

    at: float
    kind: str
    who: str
    seconds: float = 0.0  # until it is undone
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.kind:8} {self.who:22} for {self.seconds:5.2f} s  {self.amount:g}"


@dataclass(frozen=True)
class Plan:
    seed: int
    code: ErasureCode
    nodes: int
    zones: int = 3
    gateways: int = 2
    repairers: int = 2
    clients: int = 4
    operations: int = 14  # per client
    keys: int = 3
    pause_s: float = 0.5  # a client thinks at most so long
    seconds: float = 8.0  # faults begin within
    orphan_age_s: float = 20.0
    tombstone_age_s: float = 10.0
    network: NetworkFaults = field(default_factory=NetworkFaults)
    faults: tuple[Fault, ...] = ()
    away_max: int = 2  # machines that are down or paused at a time, by faults of their own

    @property
    def quiet(self) -> bool:
        """Nothing goes wrong: then nothing may fail."""
        return not self.faults and self.network == NetworkFaults()

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.code} on {self.nodes} nodes in {self.zones} zones, {self.gateways} gateways, "
            f"{self.repairers} repairers; {self.clients} clients x {self.operations} operations on {self.keys} keys; "
            f"orphans go after {self.orphan_age_s:.0f} s, tombstones after {self.tombstone_age_s:.0f} s; "
            f"at most {self.away_max} machines away",
            f"network: {self.network}",
            *(str(fault) for fault in self.faults),
        ]
        return "\n".join(lines)


def draw(seed: int) -> Plan:
    chance = random.Random(f"plan {seed}")
    code = ErasureCode(*chance.choice(CODES))
    nodes = chance.randint(max(5, code.nodes_min), 9)
    plan = Plan(
        seed,
        code,
        nodes,
        zones=chance.choice((1, 3)),
        gateways=chance.choice((2, 2, 3)),
        repairers=chance.choice((1, 2, 2)),
        clients=chance.randint(3, 6),
        operations=chance.randint(8, 16),
        keys=chance.randint(1, 4),
        pause_s=chance.choice((0.05, 0.5, 1.0)),
        seconds=chance.choice((3.0, 6.0, 10.0)),
        orphan_age_s=chance.choice((3.0, 10.0, 60.0)),
        tombstone_age_s=chance.choice((1.0, 3.0, 20.0)),
        away_max=nodes if chance.random() < 0.1 else code.m,
        network=_network(chance),
    )
    families = chance.sample(sorted(_FAMILIES), chance.choice((0, 1, 2, 2, 3, 5)))
    faults = [fault for family in families for fault in _FAMILIES[family](plan, chance)]
    if not _PATIENT.isdisjoint(families):
        calm = replace(plan.network, loss=0.0, slow_s=min(plan.network.slow_s, 0.1))
        plan = replace(plan, pause_s=2.0, network=calm)
    return replace(plan, faults=tuple(sorted(faults, key=lambda fault: (fault.at, fault.kind, fault.who))))


def quiet(seed: int) -> Plan:
    """The same, and nothing goes wrong."""
    return replace(draw(seed), network=NetworkFaults(), faults=())


def _network(chance: random.Random) -> NetworkFaults:
    slow, slow_s = chance.choice(((0.0, 0.0), (0.1, 0.1), (0.05, 1.0), (0.02, 6.0)))
    loss, repeat = chance.choice((0.0, 0.01, 0.03)), chance.choice((0.0, 0.02, 0.2))
    return NetworkFaults(loss=loss, repeat=repeat, slow=slow, slow_s=slow_s)


def _machine(plan: Plan, chance: random.Random) -> str:
    return f"n{chance.randint(1, plan.nodes)}"


def _server(plan: Plan, chance: random.Random) -> str:
    """A process other than a node's."""
    gateways = [f"gateway{i + 1}" for i in range(plan.gateways)]
    return chance.choice((*gateways, *(f"repairer{i + 1}" for i in range(plan.repairers)), "coordinator"))


def _anyone(plan: Plan, chance: random.Random) -> str:
    return _machine(plan, chance) if chance.random() < 0.6 else _server(plan, chance)


def _at(plan: Plan, chance: random.Random) -> float:
    return chance.uniform(0.0, plan.seconds)


def _nodes_die(plan: Plan, chance: random.Random) -> list[Fault]:
    kinds = ("kill", "power", "power", "dark", "pause")
    return [
        Fault(_at(plan, chance), chance.choice(kinds), _machine(plan, chance), chance.choice((0.3, 2.0, 4.0, 9.0)))
        for _ in range(chance.randint(1, 6))
    ]


def _servers_die(plan: Plan, chance: random.Random) -> list[Fault]:
    kinds = ("stop", "stop", "pause")
    return [
        Fault(_at(plan, chance), chance.choice(kinds), _server(plan, chance), chance.choice((0.2, 1.0, 3.0, 8.0, 30.0)))
        for _ in range(chance.randint(1, 5))
    ]


def _clocks_err(plan: Plan, chance: random.Random) -> list[Fault]:
    found = []
    for _ in range(chance.randint(1, 5)):
        seconds, error_ms = chance.choice((0.5, 5.0, 20.0)), chance.choice(SKEWS_MS)
        found.append(Fault(_at(plan, chance), "skew", _anyone(plan, chance), seconds, error_ms))
    return found


def _links_break(plan: Plan, chance: random.Random) -> list[Fault]:
    found = []
    for _ in range(chance.randint(1, 6)):
        who = f"{_anyone(plan, chance)}>{_anyone(plan, chance)}"
        found.append(Fault(_at(plan, chance), "block", who, chance.choice((0.5, 3.0, 6.0))))
    return found


def _disks_stall(plan: Plan, chance: random.Random) -> list[Fault]:
    found = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(("slow", "full", "full", "eio", "eio"))
        found.append(Fault(_at(plan, chance), kind, _machine(plan, chance), chance.uniform(0.5, 4.0)))
    return found


def _disks_rot(plan: Plan, chance: random.Random) -> list[Fault]:
    rotten = [_machine(plan, chance) for _ in range(plan.code.m)]
    found = []
    for _ in range(chance.randint(1, 4)):
        kind, who = chance.choice(("rot", "rot", "cut")), chance.choice(rotten)
        found.append(Fault(_at(plan, chance) + 4.0, kind, who, 0.0, chance.random()))
    return found


def _disks_vanish(plan: Plan, chance: random.Random) -> list[Fault]:
    return [
        Fault(
            _at(plan, chance) + 2.0, chance.choice(("wipe", "index")), _machine(plan, chance), chance.choice((0.2, 6.0))
        )
        for _ in range(chance.randint(1, 2))
    ]


def _power_goes(plan: Plan, chance: random.Random) -> list[Fault]:
    return [Fault(_at(plan, chance), "blackout", "everybody", chance.choice((0.5, 4.0, 10.0)))]


def _layout_changes(plan: Plan, chance: random.Random) -> list[Fault]:
    found = [Fault(_at(plan, chance), "add", "operator")] if chance.random() < 0.7 else []
    if not found or chance.random() < 0.5:
        found.append(Fault(_at(plan, chance), "drain", _machine(plan, chance)))
    return found


# Such a fault waits for a moment at which all is whole: it must come, and clients must still be there then.
_PATIENT = {"layouts", "lost disks", "rot"}
_FAMILIES = {
    "clocks": _clocks_err,
    "disks": _disks_stall,
    "layouts": _layout_changes,
    "links": _links_break,
    "lost disks": _disks_vanish,
    "nodes": _nodes_die,
    "power": _power_goes,
    "rot": _disks_rot,
    "servers": _servers_die,
}

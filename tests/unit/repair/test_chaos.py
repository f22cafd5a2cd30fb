"""Everything at once: writers, nodes that die, pause and return, repairers that die; then peace and an account.

Safety: every acknowledged object is there with its bytes, and nothing else. Liveness: full redundancy again, no
work left, and as many fragments as the objects need.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from objstore.model.errors import ObjstoreError, Unavailable
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.loop import run
from tests.sim.network import NetworkFaults
from tests.unit.repair.rig import SETTINGS, MappedCluster, Repaired, body, get, is_full

FAST = replace(SETTINGS, out_after_s=3.0, garbage_delay_s=4.0, orphan_age_s=20.0, orphan_round_s=5.0)


class Chaos:
    def __init__(self, sim: SimCluster, seed: int) -> None:
        self.sim = sim
        self.repaired = Repaired(sim, FAST)
        self.chance = random.Random(seed)
        self.acked: dict[str, bytes | None] = {}  # None: deleted
        self.unknown: dict[str, list[bytes | None]] = {}  # what it may be instead

    async def write(self, engine: int, name: str) -> None:
        """One writer per name, so that the last acknowledged state is known."""
        for turn in range(14):
            key = f"{name}{turn % 4}"
            delete = self.chance.random() < 0.2
            data = self.chance.randbytes(self.chance.choice((10, 40_000, 400_000)))
            wish = None if delete else data
            try:
                if delete:
                    await self.sim.engines[engine].delete_object("b", key)
                else:
                    await self.sim.engines[engine].put_object("b", key, body(data), len(data), {})
            except Unavailable:
                self.unknown.setdefault(key, []).append(wish)
            else:
                self.acked[key] = wish
                self.unknown.pop(key, None)
            await asyncio.sleep(self.chance.uniform(0, 2))

    async def hurt_nodes(self) -> None:
        """At most m nodes are away at a time."""
        for _ in range(5):
            victims = self.chance.sample(self.sim.machines, self.chance.choice((1, 1, 2)))
            away: list[tuple[SimNode, bool]] = []
            for machine in victims:
                paused = self.chance.random() < 0.3
                self.sim.pause(machine) if paused else self.sim.kill(machine, power=self.chance.random() < 0.5)
                away.append((machine, paused))
            await asyncio.sleep(self.chance.uniform(0.5, 12))
            for machine, paused in away:
                if paused:
                    self.sim.resume(machine)
                else:
                    await self.sim.start_node(machine)
            await asyncio.sleep(self.chance.uniform(4, 12))

    async def hurt_repairers(self) -> None:
        for turn in range(6):
            await asyncio.sleep(self.chance.uniform(2, 12))
            self.repaired.kill(self.chance.choice(sorted(self.repaired.repairers)))
            await self.repaired.start(f"r{10 + turn}")

    async def account(self) -> None:
        engine = self.sim.engines[1]
        listed = {entry.key for entry in (await engine.list_objects("b")).entries}
        for key, expected in self.acked.items():
            allowed = [expected, *self.unknown.get(key, [])]
            try:
                found: bytes | None = await get(engine, "b", key)
            except ObjstoreError as error:
                assert None in allowed, (key, error)
                assert key not in listed
                continue
            assert found in allowed and key in listed, key
        assert listed <= {*self.acked, *self.unknown}


@pytest.mark.parametrize("seed", range(5))
def test_after_any_trouble_all_is_there_and_whole_again(seed: int) -> None:
    async def main() -> None:
        async with MappedCluster(seed, faults=NetworkFaults(loss=0.002)) as sim:
            chaos = Chaos(sim, seed)
            await sim.engines[0].create_bucket("b")
            await sim.engines[0].put_object("b", "first", body(b"x" * 50_000), 50_000, {})
            chaos.acked["first"] = b"x" * 50_000
            await chaos.repaired.start("r1")
            await chaos.repaired.start("r2")
            await asyncio.gather(chaos.write(0, "p"), chaos.write(1, "q"), chaos.hurt_nodes(), chaos.hurt_repairers())
            sim.network.faults = NetworkFaults()
            await asyncio.sleep(10)
            await chaos.repaired.until(lambda s: is_full(s) and s.repair.state == "idle", within_s=300)
            await asyncio.sleep(40)  # garbage has its delays; a write of unknown outcome may still be completed
            keys = [entry.key for entry in (await sim.engines[0].list_objects("b")).entries]
            infos = [await sim.engines[0].head_object("b", key) for key in keys]
            needed = 6 * sum(len(info.blobs) for info in infos)
            await chaos.repaired.until(
                lambda s: (
                    s.objects.full == s.objects.total == len(keys)
                    and sum(n.fragments for n in s.nodes.values()) == needed
                ),
                within_s=200,
            )
            await chaos.account()

    run(main, seed)

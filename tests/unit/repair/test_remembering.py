"""A coordinator that lost the map, or came back with an old one: whoever remembers a later one puts it back."""

from __future__ import annotations

import pytest

from objstore.cluster.port import MAP_KEY
from objstore.model.cluster import decode_map
from tests.sim.loop import run
from tests.unit.repair.rig import MappedCluster, Repaired


@pytest.mark.parametrize("loss", ["empty", "old"])
@pytest.mark.parametrize("successor", ["follows already", "comes later"])
def test_the_latest_map_that_anybody_remembers_is_put_back(loss: str, successor: str) -> None:
    """What a node knows is enough: a repairer that was not there asks them before it believes the coordinator."""

    async def main() -> None:
        async with MappedCluster(8) as sim:
            coordinator = sim.coordinator("")
            first = await coordinator.get(MAP_KEY)
            assert first is not None
            repaired = Repaired(sim)
            await repaired.start("r1")
            if successor == "follows already":
                await repaired.start("r2")
            sim.kill(sim.machines[3])
            survey = await repaired.until(lambda s: s.repair.state == "idle" and s.epoch > 1)
            known = await coordinator.get(MAP_KEY)
            assert known is not None
            assert decode_map(known.value).progress > decode_map(first.value).progress
            repaired.kill(survey.leader)
            if loss == "old":
                assert await coordinator.put(MAP_KEY, first.value) is not None
            else:
                assert await coordinator.delete(MAP_KEY)
            _, lost_at = await coordinator.range(MAP_KEY)
            if successor == "comes later":
                await repaired.start("r3")
            await coordinator.watch(MAP_KEY, lost_at, 60.0)
            found = await coordinator.get(MAP_KEY)
            assert found is not None and found.value == known.value, "the next map is the one that was known"
            await repaired.until(lambda s: s.repair.state == "idle" and s.leader != survey.leader)

    run(main, 8)


@pytest.mark.parametrize("loss", ["empty", "old"])
def test_a_leader_that_stays_the_leader_puts_its_map_back(loss: str) -> None:
    """It may win the lost key of the election again before anything else notices that it was lost."""

    async def main() -> None:
        async with MappedCluster(8) as sim:
            coordinator = sim.coordinator("")
            first = await coordinator.get(MAP_KEY)
            assert first is not None
            repaired = Repaired(sim)
            await repaired.start("r1")
            sim.kill(sim.machines[3])
            await repaired.until(lambda s: s.repair.state == "idle" and s.epoch > 1)
            known = await coordinator.get(MAP_KEY)
            assert known is not None
            if loss == "old":
                assert await coordinator.put(MAP_KEY, first.value) is not None
            else:
                assert await coordinator.delete(MAP_KEY)
            _, lost_at = await coordinator.range(MAP_KEY)
            await coordinator.watch(MAP_KEY, lost_at, 60.0)
            found = await coordinator.get(MAP_KEY)
            assert found is not None and found.value == known.value

    run(main, 9)

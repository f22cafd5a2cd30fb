"""The whole repairer in the simulated cluster: it notices, repairs, reports, and is replaced when it dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from objstore.cluster.port import REPAIR_CONTROL_KEY, REPAIR_LEADER_KEY
from objstore.engine.registers import Registers
from objstore.model.manifest import FragmentId
from objstore.model.records import KeyState, RegisterKey, Space, decode
from objstore.model.survey import RepairControl, encode_control
from objstore.node.service import TABLES
from objstore.register.change import body_of
from objstore.wire.messages import FragDelete, FragVerify
from tests.sim.cluster import SimClock, SimCluster, SimNode, SimRandom
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV
from tests.sim.loop import run
from tests.unit.repair.rig import SETTINGS, MappedCluster, Repaired, body, get, is_full, machine_of


async def filled(sim: SimCluster, count: int = 12) -> dict[str, bytes]:
    """Objects of all kinds: inline, one stripe, several stripes."""
    engine = sim.engines[0]
    await engine.create_bucket("b")
    stored = {}
    for i in range(count):
        data = sim.random.randbytes((100, 40_000, 1_200_000)[i % 3])
        await engine.put_object("b", f"k{i}", body(data), len(data), {})
        stored[f"k{i}"] = data
    return stored


async def check_all(sim: SimCluster, stored: dict[str, bytes]) -> None:
    for key, data in stored.items():
        assert await get(sim.engines[1], "b", key) == data, key


async def pause(sim: SimCluster, paused: bool = True) -> None:
    await sim.coordinator("").put(REPAIR_CONTROL_KEY, encode_control(RepairControl(paused)))
    await asyncio.sleep(3)


def test_a_quiet_cluster_is_reported_full_and_idle() -> None:
    async def main() -> None:
        async with MappedCluster(1) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            survey = await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            assert survey.can_lose == 2
            assert survey.redundancy == [0, 0, 0, 0, 0, 0, len(stored)]
            assert survey.repair.state == "idle"
            assert sum(one.fragments for one in survey.nodes.values()) == 8 * 6  # 8 of the 12 are not inline
            assert all(one.missing == 0 for one in survey.nodes.values())

    run(main, 1)


def test_a_dead_node_is_declared_out_and_its_share_rebuilt() -> None:
    async def main() -> None:
        async with MappedCluster(2) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            victim = sim.machines[3]
            assert victim.service is not None
            victim_id = victim.service.id
            sim.kill(victim)
            damaged = await repaired.until(lambda s: s.objects.reduced > 0)
            assert damaged.can_lose == 1
            waiting = await repaired.until(lambda s: s.repair.state == "waiting")
            assert victim.name in waiting.repair.reason
            whole = await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            assert (await repaired.map()).current.out == (victim_id,)
            assert whole.can_lose == 2
            assert whole.receipt is not None and whole.receipt.objects > 0 and whole.receipt.bytes > 0
            for machine in [m for m in sim.machines if m is not victim][:2]:  # now two more may go
                sim.kill(machine)
            await check_all(sim, stored)

    run(main, 2)


def test_the_next_leader_goes_on_when_the_first_dies_in_the_middle() -> None:
    async def main() -> None:
        async with MappedCluster(3) as sim:
            stored = await filled(sim, 24)
            slow = replace(SETTINGS, budget=400_000)
            repaired = Repaired(sim, slow)
            await repaired.start("r1")
            await repaired.start("r2")
            first = await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            sim.kill(sim.machines[0])
            half = await repaired.until(lambda s: s.repair.bytes_done > 0 and s.objects.reduced > 0)
            assert half.repair.state in ("running", "throttled")
            repaired.kill(first.leader)
            next_one = await repaired.until(lambda s: s.leader != first.leader)
            assert next_one.repair.started_ms == half.repair.started_ms
            assert next_one.repair.done >= half.repair.done
            whole = await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            assert whole.receipt is not None and whole.receipt.started_ms == half.repair.started_ms
            await check_all(sim, stored)

    run(main, 3)


def test_a_node_that_returns_takes_its_share_back_and_extra_copies_go() -> None:
    async def main() -> None:
        async with MappedCluster(4) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            victim = sim.machines[2]
            sim.kill(victim)
            await repaired.until(lambda s: s.objects.reduced > 0)
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            late = sim.random.randbytes(300_000)
            await sim.engines[0].put_object("b", "late", body(late), len(late), {})
            stored["late"] = late
            await sim.start_node(victim)
            back = await repaired.until(
                lambda s: is_full(s) and s.epoch == 3 and sum(n.fragments for n in s.nodes.values()) == 9 * 6
            )
            assert back.objects.total == len(stored)
            assert (await repaired.map()).current.out == ()
            assert victim.service is not None
            assert back.nodes[victim.service.id].fragments > 0
            for machine in [m for m in sim.machines if m is not victim][:2]:
                sim.kill(machine)
            await check_all(sim, stored)

    run(main, 4)


def test_with_too_few_nodes_it_says_that_it_is_blocked_and_heals_when_one_comes() -> None:
    async def main() -> None:
        async with MappedCluster(5, nodes=6) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            sim.kill(sim.machines[1])
            stuck = await repaired.until(lambda s: s.repair.state == "blocked")
            assert stuck.repair.reason == "EC 4+2 needs 6 nodes, 5 are up"
            assert stuck.objects.reduced > 0 and stuck.can_lose == 1
            await sim.start_node(sim.machines[1])
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            await check_all(sim, stored)

    run(main, 5)


def test_a_node_with_a_new_empty_disk_leaves_no_object_behind() -> None:
    """The old identity is gone for good; its share goes to the others."""

    async def main() -> None:
        async with MappedCluster(6) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            sim.kill(sim.machines[4])
            sim.machines[4] = SimNode("n5b", SimDisk(), SimKV(TABLES), SimClock(sim.loop))
            await sim.start_node(sim.machines[4])
            await repaired.until(lambda s: s.objects.reduced > 0)
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            await check_all(sim, stored)

    run(main, 6)


def test_quarantined_and_missing_fragments_are_rebuilt_at_home() -> None:
    async def main() -> None:
        async with MappedCluster(7) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            info = await sim.engines[0].head_object("b", "k2")
            fragment = FragmentId(info.blobs[0].id, 0, 1).pack()
            topology = repaired.repairers["r1"]._directory.topology
            assert topology is not None
            partition = topology.partition_of_blob(info.blobs[0].id, 0)
            owner = machine_of(sim, topology.data_owners(partition)[1])
            assert owner.service is not None
            await pause(sim)
            await owner.service.handle(FragDelete(partition, fragment), b"")
            hurt = await repaired.until(lambda s: s.objects.reduced == 1)
            assert hurt.nodes[owner.service.id].missing == 1
            await pause(sim, False)
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            await owner.service.handle(FragVerify(fragment), b"")
            await check_all(sim, stored)

    run(main, 7)


def test_an_operator_can_pause_it() -> None:
    async def main() -> None:
        async with MappedCluster(8) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            await pause(sim)
            await repaired.until(lambda s: s.repair.state == "paused")
            sim.kill(sim.machines[0])
            await asyncio.sleep(20)
            survey = await repaired.survey()
            assert survey is not None and survey.objects.reduced > 0 and survey.repair.bytes_done == 0
            await pause(sim, False)
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")

    run(main, 8)


async def order(sim: SimCluster, control: RepairControl) -> None:
    await sim.coordinator("").put(REPAIR_CONTROL_KEY, encode_control(control))


def test_a_pause_ends_by_itself_whoever_leads_and_says_how_long_it_lasts() -> None:
    async def main() -> None:
        async with MappedCluster(12) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.start("r2")
            first = await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            await order(sim, RepairControl(True, SimClock(sim.loop).wall_ms() + 40_000))
            await repaired.until(lambda s: s.repair.state == "paused")
            sim.kill(sim.machines[0])
            repaired.kill(first.leader)
            still = await repaired.until(lambda s: s.leader != first.leader and s.objects.reduced > 0)
            assert still.repair.state == "paused" and "s more; " in still.repair.reason
            assert still.repair.paused_until_ms > 0 and still.repair.bytes_done == 0
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            await check_all(sim, stored)

    run(main, 12)


def test_an_ordered_budget_is_kept_and_shown_as_the_reason() -> None:
    async def main() -> None:
        async with MappedCluster(13) as sim:
            stored = await filled(sim, 24)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            await order(sim, RepairControl(budget=100_000))
            sim.kill(sim.machines[0])
            slow = await repaired.until(lambda s: s.repair.state == "throttled")
            assert slow.repair.reason == slow.repair.throttle == "at the budget of 97.66 KiB/s"
            assert slow.repair.budget == 100_000
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            receipt = (await repaired.until(lambda s: s.receipt is not None)).receipt
            assert receipt is not None
            assert receipt.bytes / 100_000 * 0.8 < (receipt.finished_ms - receipt.started_ms) / 1000

    run(main, 13)


def test_an_operator_need_not_wait_for_a_silent_node() -> None:
    async def main() -> None:
        async with MappedCluster(14) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim, replace(SETTINGS, out_after_s=3600.0))
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            sim.kill(sim.machines[0])
            await repaired.until(lambda s: s.repair.state == "waiting" and s.objects.reduced > 0)
            await asyncio.sleep(20)
            waiting = await repaired.survey()
            assert waiting is not None and waiting.repair.bytes_done == 0
            await order(sim, RepairControl(orders=1, now=1))
            done = await repaired.until(lambda s: s.repair.orders == 1 and is_full(s) and s.receipt is not None)
            assert done.receipt is not None and done.receipt.bytes > 0
            assert len((await repaired.map()).current.out) == 1
            await sim.start_node(sim.machines[0])
            await repaired.until(lambda s: s.epoch == 3)
            assert (await repaired.map()).newest.out == (), "it has its old place again"
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            await check_all(sim, stored)

    run(main, 14)


def test_a_node_that_comes_back_gets_what_it_missed_as_a_rebalance_that_can_be_paused() -> None:
    async def main() -> None:
        async with MappedCluster(15) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored) and is_full(s))
            victim = sim.machines[0]
            sim.kill(victim)
            await repaired.until(lambda s: s.objects.reduced > 0)
            await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            for i in range(6):
                data = sim.random.randbytes(50_000)
                await sim.engines[0].put_object("b", f"late{i}", body(data), len(data), {})
                stored[f"late{i}"] = data
            await order(sim, RepairControl(rebalance_paused=True))
            await asyncio.sleep(2)
            await sim.start_node(victim)
            held = await repaired.until(lambda s: s.epoch == 3 and is_full(s) and s.repair.misplaced > 0)
            held = await repaired.until(lambda s: s.repair.state == "paused")
            assert held.repair.kind == "rebalance" and "moves are paused" in held.repair.reason
            await asyncio.sleep(20)
            later = await repaired.survey()
            assert later is not None and later.repair.misplaced == held.repair.misplaced and later.moved_bytes == 0
            await order(sim, RepairControl())
            done = await repaired.until(lambda s: is_full(s) and s.repair.state == "idle")
            assert done.receipt is not None and done.receipt.kind == "rebalance"
            assert done.receipt.objects == held.repair.misplaced
            fragments = sum(one.fragments for one in done.nodes.values())
            size = sum(len(data) for key, data in stored.items() if key.startswith("late"))
            assert done.moved_bytes <= 1.1 * (size / 4 + 1000 * 6), "one shard of each at most, and none twice"
            await repaired.until(lambda s: sum(one.fragments for one in s.nodes.values()) == 14 * 6 <= fragments)
            await check_all(sim, stored)

    run(main, 15)


async def key_states(sim: SimCluster, keys: list[str]) -> list[KeyState]:
    engine = sim.engines[0]
    bucket = await engine.get_bucket("b")
    registers = Registers(engine.peers, SimClock(sim.loop), SimRandom(5))
    values = [await registers.read(RegisterKey(bucket.id, Space.OBJECT, key.encode())) for key in keys]
    return [decode(body_of(value), KeyState) if body_of(value) else KeyState() for value in values]


def test_fragments_of_overwritten_and_deleted_objects_go_and_those_of_live_ones_stay() -> None:
    async def main() -> None:
        async with MappedCluster(9) as sim:
            stored = await filled(sim)
            engine = sim.engines[0]
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored))
            new = sim.random.randbytes(70_000)
            await engine.put_object("b", "k1", body(new), len(new), {})
            await engine.delete_object("b", "k2")
            stored["k1"] = new
            del stored["k2"]
            await repaired.until(lambda s: sum(n.fragments for n in s.nodes.values()) == (8 + 1) * 6)
            await repaired.until(
                lambda s: s.objects.total == len(stored) and sum(n.fragments for n in s.nodes.values()) == 7 * 6
            )
            assert [state.retired for state in await key_states(sim, ["k1", "k2"])] == [(), ()]
            page = await engine.list_objects("b")
            assert [entry.key for entry in page.entries] == sorted(stored)
            await check_all(sim, stored)

    run(main, 9)


def test_parts_that_no_upload_chose_are_collected_and_chosen_ones_stay() -> None:
    async def main() -> None:
        async with MappedCluster(10) as sim:
            engine = sim.engines[0]
            await engine.create_bucket("b")
            repaired = Repaired(sim)
            await repaired.start("r1")
            upload = await engine.create_upload("b", "big", {})
            parts = {n: sim.random.randbytes(100_000 + n) for n in (1, 2)}
            made = [await engine.put_part("b", "big", upload, n, body(d), len(d)) for n, d in parts.items()]
            await repaired.until(lambda s: sum(n.fragments for n in s.nodes.values()) == 2 * 6)
            await engine.complete_upload("b", "big", upload, [(2, made[1].etag)])
            dropped = await engine.create_upload("b", "other", {})
            await engine.put_part("b", "other", dropped, 1, body(parts[1]), len(parts[1]))
            await engine.abort_upload("b", "other", dropped)
            survey = await repaired.until(
                lambda s: s.objects.total == 1 and sum(n.fragments for n in s.nodes.values()) == 6
            )
            assert is_full(survey)
            assert await get(engine, "b", "big") == parts[2]

    run(main, 10)


def test_metadata_replicas_that_missed_a_write_get_it_without_a_reader() -> None:
    async def main() -> None:
        async with MappedCluster(11) as sim:
            repaired = Repaired(sim, replace(SETTINGS, out_after_s=600.0))
            await repaired.start("r1")
            await sim.engines[0].create_bucket("b")
            sim.kill(sim.machines[0])
            for i in range(20):
                await sim.engines[0].put_object("b", f"k{i}", body(b"v%d" % i), 2 + i // 10, {})
            await repaired.until(lambda s: s.objects.total == 20 and s.objects.reduced > 0)
            await sim.start_node(sim.machines[0])
            await repaired.until(lambda s: s.objects.total == 20 and is_full(s))
            assert (await repaired.map()).current.epoch == 1
            for machine in sim.machines[1:3]:
                sim.kill(machine)
            for i in range(20):
                assert await get(sim.engines[1], "b", f"k{i}") == b"v%d" % i

    run(main, 11)


def test_whoever_led_once_leads_again_though_its_calls_run_out_of_time() -> None:
    async def main() -> None:
        async with MappedCluster(1) as sim:
            stored = await filled(sim)
            repaired = Repaired(sim)
            await repaired.start("r1")
            await repaired.until(lambda s: s.objects.total == len(stored))
            coordinator = sim.coordinator("")
            for _ in range(3):
                await coordinator.put(REPAIR_LEADER_KEY, b"another", lease=await coordinator.grant(2.0))
                await asyncio.sleep(1.0)
                assert not repaired.repairers["r1"].is_leader
                sim.network.blocked.add(("r1", "coordinator"))
                await asyncio.sleep(12.0)
                sim.network.blocked.clear()
                await repaired.until(lambda s: s.objects.total == len(stored))
            run = repaired.repairers["r1"]._task
            assert run is not None and run.cancelling() == 0

    run(main, 1)

"""A simulated cluster does what a cluster does: first without faults, then with them."""

import asyncio
from collections.abc import AsyncIterator
from itertools import combinations

import pytest

from objstore.engine.types import WriteCondition
from objstore.model import limits
from objstore.model.errors import (
    Conflict,
    IncompleteBody,
    InvalidPart,
    NoSuchKey,
    NoSuchUpload,
    NotFound,
    PreconditionFailed,
    QuorumLost,
)
from objstore.model.ids import SYSTEM_BUCKET
from objstore.model.records import RegisterKey, Space
from tests.sim.cluster import SimCluster
from tests.sim.loop import run
from tests.sim.seeds import first_of


async def body(data: bytes, step: int = 100_000) -> AsyncIterator[bytes]:
    for i in range(0, len(data), step):
        yield data[i : i + step]


async def get(engine: object, bucket: str, key: str) -> bytes:
    info = await engine.head_object(bucket, key)  # type: ignore[attr-defined]
    return b"".join([bytes(b) async for b in engine.read(info, 0, info.size)])  # type: ignore[attr-defined]


def test_objects_of_all_sizes_come_back() -> None:
    async def main() -> None:
        async with SimCluster(1) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            for size in (0, 1, 1000, 32 * 1024, 32 * 1024 + 1, 100_000, 1_500_000, 5_000_001):
                data = cluster.random.randbytes(size)
                await one.put_object("b", f"k{size}", body(data), size, {})
                assert await get(two, "b", f"k{size}") == data
            page = await two.list_objects("b")
            assert [entry.key for entry in page.entries] == sorted(entry.key for entry in page.entries)
            assert len(page.entries) == 8
            assert (await one.delete_object("b", "k1")).version_id == "null"
            with pytest.raises(NoSuchKey):
                await two.head_object("b", "k1")

    run(main, 1)


def test_m_nodes_down_lose_nothing_and_writes_go_on() -> None:
    async def main() -> None:
        async with SimCluster(2) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            data = cluster.random.randbytes(3_000_000)
            await one.put_object("b", "before", body(data), len(data), {})
            await one.put_object("b", "small", body(b"x"), 1, {})
            for machine in cluster.machines[2:4]:
                cluster.kill(machine)
            assert await get(two, "b", "before") == data
            assert await get(two, "b", "small") == b"x"
            await two.put_object("b", "after", body(data), len(data), {})
            info = await one.head_object("b", "after")
            assert info.blobs[0].absent == ()  # handoff nodes hold what the dead ones should
            assert await get(one, "b", "after") == data

    run(main, 2)


def test_one_creator_wins_over_two_gateways() -> None:
    async def main() -> None:
        async with SimCluster(3) as cluster:
            await cluster.engines[0].create_bucket("b")

            async def create(i: int) -> int:
                engine = cluster.engines[i % 2]
                try:
                    await engine.put_object(
                        "b", "one", body(b"%d" % i), len(b"%d" % i), {}, condition=WriteCondition(if_none_match="*")
                    )
                except PreconditionFailed:
                    return 0
                return 1

            wins = await asyncio.gather(*(create(i) for i in range(10)))
            assert sum(wins) == 1

    run(main, 3)


def test_multipart_joins_parts_in_order_and_repeats_its_answer() -> None:
    async def main() -> None:
        async with SimCluster(4) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            upload = await one.create_upload("b", "big", {"content-type": "text/plain"})
            parts = []
            whole = b""
            for number, size in ((1, 5 << 20), (3, 5 << 20), (7, 77)):
                data = cluster.random.randbytes(size)
                whole += data
                part = await two.put_part("b", "big", upload, number, body(data), size)
                parts.append((number, part.etag))
            assert [entry.key for entry in (await one.list_uploads("b")).uploads] == ["big"]
            first = await one.complete_upload("b", "big", upload, parts)
            again = await two.complete_upload("b", "big", upload, parts)
            assert first.etag == again.etag and first.etag.endswith("-3")
            assert await get(two, "b", "big") == whole
            assert (await one.list_uploads("b")).uploads == []

    run(main, 4)


def test_node_that_dies_in_the_middle_of_a_stream_costs_no_redundancy() -> None:
    async def main() -> None:
        async with SimCluster(8) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            data = cluster.random.randbytes(9_000_000)

            async def dying(data: bytes) -> AsyncIterator[bytes]:
                for i in range(0, len(data), 1_000_000):
                    if i == 5_000_000:
                        cluster.kill(cluster.machines[0])
                        cluster.pause(cluster.machines[1])
                    yield data[i : i + 1_000_000]

            info = await one.put_object("b", "k", dying(data), len(data), {})
            assert info.blobs[0].absent == ()
            cluster.kill(cluster.machines[2])
            cluster.resume(cluster.machines[1])
            assert await get(two, "b", "k") == data

    run(main, 8)


def test_body_that_ends_early_leaves_nothing() -> None:
    async def main() -> None:
        async with SimCluster(9) as cluster:
            one, _ = cluster.engines
            await one.create_bucket("b")
            for size in (1000, 100_000, 9_000_000):
                with pytest.raises(IncompleteBody):
                    await one.put_object("b", "k", body(bytes(size - 1)), size, {})
                with pytest.raises(IncompleteBody):
                    await one.put_object("b", "k", body(bytes(size + 1)), size, {})
            with pytest.raises(NoSuchKey):
                await one.head_object("b", "k")
            await asyncio.sleep(30)
            assert sum(machine.service.stats().fragments for machine in cluster.machines if machine.service) == 0

    run(main, 9)


@pytest.mark.parametrize("seed", first_of(3, range(6)))
def test_writes_right_after_nodes_came_back_and_others_died_have_every_shard(seed: int) -> None:
    async def main() -> None:
        async with SimCluster(seed, repairer_count=1) as cluster:
            one, _ = cluster.engines
            await one.create_bucket("b")
            first, second = cluster.machines[:2], cluster.machines[2:4]
            for machine in first:
                cluster.kill(machine)
            for i in range(20):
                await one.put_object("b", f"a{i}", body(bytes(100_000)), 100_000, {})
            for machine in first:
                await cluster.start_node(machine)
            for machine in second:
                cluster.kill(machine)
            puts = (one.put_object("b", f"b{i}", body(bytes(100_000)), 100_000, {}) for i in range(20))
            for info in await asyncio.gather(*puts):
                assert info.blobs[0].absent == (), "six nodes live, and six shards there are"

    run(main, seed)


async def two_completions(cluster: SimCluster, then: str) -> tuple[str, list[str]]:
    """One Complete is held up before its commit while another fails its condition; then something happens.

    Returns what came of the first, and what is wrong in the end."""
    one, two = cluster.engines
    await one.create_bucket("b")
    await one.put_object("b", "k", body(b"old"), 3, {})
    data = cluster.random.randbytes(6_000_000)
    upload = await one.create_upload("b", "k", {})
    part = await one.put_part("b", "k", upload, 1, body(data), len(data))
    objects = one.complete_upload.__self__._objects  # type: ignore[attr-defined]
    commit, gate, reached = objects.commit, asyncio.Event(), asyncio.Event()

    async def slow(*args: object, **keywords: object) -> None:
        reached.set()
        await gate.wait()
        await commit(*args, **keywords)

    objects.commit = slow
    first = asyncio.ensure_future(one.complete_upload("b", "k", upload, [(1, part.etag)]))
    await reached.wait()
    with pytest.raises(PreconditionFailed):
        await two.complete_upload("b", "k", upload, [(1, part.etag)], condition=WriteCondition(if_none_match="*"))
    expected = data
    if then == "abort":
        await two.abort_upload("b", "k", upload)
        expected = b"old"
    elif then == "other parts":
        other = await two.put_part("b", "k", upload, 1, body(b"tiny"), 4)
        await two.complete_upload("b", "k", upload, [(1, other.etag)])
        expected = b"tiny"
    gate.set()
    try:
        outcome = (await first).etag
    except (NotFound, Conflict) as error:
        outcome = type(error).__name__
    wrong = []
    for seconds in (0, 30, 90):  # garbage goes after 5 s, orphans after 60
        await asyncio.sleep(seconds)
        if await get(two, "b", "k") != expected:
            wrong.append(f"wrong bytes after {seconds} s")
    return outcome, wrong


@pytest.mark.parametrize(("then", "outcome"), [("abort", "NoSuchUpload"), ("other parts", "InvalidPart"), ("", "-1")])
def test_one_attempt_at_most_makes_the_object_and_garbage_spares_it(then: str, outcome: str) -> None:
    async def main() -> None:
        async with SimCluster(10, nodes=6, repairer_count=1) as cluster:
            found, wrong = await two_completions(cluster, then)
            assert found.endswith(outcome) and not wrong

    run(main, 10)


def test_ended_upload_says_so() -> None:
    async def main() -> None:
        async with SimCluster(11) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            upload = await one.create_upload("b", "k", {})
            part = await one.put_part("b", "k", upload, 1, body(b"part"), 4)
            await one.complete_upload("b", "k", upload, [(1, part.etag)])
            with pytest.raises(InvalidPart):
                await two.complete_upload("b", "k", upload, [(9, "0" * 32)])
            with pytest.raises(NoSuchUpload):
                await two.abort_upload("b", "k", upload)
            await one.put_object("b", "k", body(b"new"), 3, {})
            assert (await two.complete_upload("b", "k", upload, [(1, part.etag)])).etag.endswith("-1")
            assert await get(two, "b", "k") == b"new", "a repeat brings nothing back"

    run(main, 11)


def test_repair_restores_full_redundancy_and_the_next_two_losses_cost_nothing() -> None:
    async def main() -> None:
        async with SimCluster(6) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            data = {f"k{size}": cluster.random.randbytes(size) for size in (5, 40_000, 700_000, 2_000_000)}
            for key, content in data.items():
                await one.put_object("b", key, body(content), len(content), {})
            cluster.kill(cluster.machines[0])
            assert await cluster.whole(60) == ""
            for machine in cluster.machines[1:3]:
                cluster.kill(machine)
            for key, content in data.items():
                assert await get(two, "b", key) == content
                await two.put_object("b", key + "again", body(content), len(content), {})

    run(main, 6)


def test_wiped_node_takes_its_old_place_under_a_new_identity() -> None:
    async def main() -> None:
        async with SimCluster(7) as cluster:
            one, two = cluster.engines
            await one.create_bucket("b")
            data = {f"k{size}": cluster.random.randbytes(size) for size in (5, 40_000, 700_000)}
            for key, content in data.items():
                await one.put_object("b", key, body(content), len(content), {})
            for machine in cluster.machines:  # one after the other: in the end every disk is a new one
                cluster.kill(machine)
                cluster.wipe(machine)
                await cluster.start_node(machine)
                assert await cluster.converged(120) == ""
            for key, content in data.items():
                assert await get(two, "b", key) == content

    run(main, 7)


def test_a_list_ends_in_time_when_a_majority_of_some_replicas_is_silent() -> None:
    async def main() -> None:
        async with SimCluster(12, nodes=9) as cluster:
            engine = cluster.engines[0]
            info = await engine.create_bucket("b")
            topology = engine.peers.topology
            key = RegisterKey(SYSTEM_BUCKET, Space.BUCKET, b"b")
            readable = topology.meta_view(topology.partition_of_register(key)).sets[0]
            owners = [topology.meta_view(p).sets[0] for p in topology.partitions_of(info.id, Space.OBJECT)]
            majorities = (some for each in owners for some in combinations(each, 3))
            silent = next(some for some in majorities if len({*readable} & {*some}) <= 2)
            for machine in cluster.machines:
                if machine.service is not None and machine.service.id in silent:
                    cluster.pause(machine)
            before = cluster.loop.time()
            with pytest.raises(QuorumLost):
                await engine.list_objects("b")
            assert cluster.loop.time() - before <= limits.OPERATION_TIMEOUT_S + 0.5

    run(main, 12)


def test_same_seed_gives_the_same_trace() -> None:
    async def main() -> int:
        async with SimCluster(5) as cluster:
            await cluster.engines[0].create_bucket("b")
            data = cluster.random.randbytes(200_000)
            await cluster.engines[1].put_object("b", "k", body(data), len(data), {})
            return cluster.network.messages

    first, second = run(main, 5), run(main, 5)
    assert first[0] == second[0] and first[1].trace == second[1].trace

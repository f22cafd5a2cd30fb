"""What is in each bucket is the sum of its registers, in whatever order they are read, and published as it changes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.adapters.clock import SystemClock
from objstore.cluster.port import USAGE
from objstore.cluster.store import CoordinatorStore
from objstore.cluster.usage import read_usage
from objstore.model import bucketconfig
from objstore.model.cluster import ErasureCode
from objstore.model.errors import Unreachable
from objstore.model.ids import SYSTEM_BUCKET, BucketId, NodeId
from objstore.model.quota import BucketQuota
from objstore.model.records import (
    BucketState,
    KeyState,
    ObjectVersion,
    PartState,
    Register,
    RegisterKey,
    Space,
    UploadState,
    encode,
    part_name,
    upload_name,
)
from objstore.model.usage import NO_USE, BucketUse, Use
from objstore.repair.inventory import Inventory
from objstore.repair.reading import read_record
from objstore.repair.usage import UsageBoard, use_of
from objstore.wire.messages import Request
from tests.sim.coordinator import LocalCoordinator
from tests.sim.loop import run
from tests.unit.repair.rig import MappedCluster
from tests.unit.repair.test_survey import Looker, put

BUCKET = BucketId(bytes(15) + b"\x07")
UPLOAD = b"u" * 16


def version(size: int, *, marker: bool = False) -> ObjectVersion:
    return ObjectVersion(random.randbytes(16), size, "e", 1, {}, (), marker=marker, null=False)


def state(*sizes: int | None) -> KeyState:
    """Newest first; None: a delete marker."""
    return KeyState(tuple(version(size or 0, marker=size is None) for size in sizes))


def name_of(bucket: BucketId) -> bytes:
    return RegisterKey(SYSTEM_BUCKET, Space.BUCKET, b"photos").pack()


class Told:
    """An inventory that is told of registers as the surveyor does."""

    def __init__(self) -> None:
        self.inventory = Inventory(ErasureCode(4, 2))

    def __call__(self, space: Space, name: bytes, body: bytes, bucket: BucketId = BUCKET) -> None:
        key = RegisterKey(bucket, space, name).pack()
        record = read_record(key, bytes(16), encode(Register(body)))
        self.inventory.set_record(1, key, record)

    def bucket(self, id: BucketId = BUCKET, quota: BucketQuota | None = None) -> None:
        config = bucketconfig.encoded(quota) if quota else {}
        body = encode(BucketState(id, 1, 16, config=config))
        self(Space.BUCKET, b"photos", body, SYSTEM_BUCKET)

    @property
    def found(self) -> dict[bytes, BucketUse]:
        return self.inventory.usage.found()


def test_what_a_key_is() -> None:
    assert use_of(KeyState()) == NO_USE
    assert use_of(state(5)) == Use(1, 1, 0, 5)
    assert use_of(state(5, None, 7)) == Use(1, 2, 1, 12)
    assert use_of(state(None, 7)) == Use(0, 1, 1, 7)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.none() | st.integers(0, 9), max_size=3)), max_size=60))
def test_the_sum_is_that_of_what_is_there_now(writes: list[tuple[int, list[int | None]]]) -> None:
    told, there = Told(), {}
    told.bucket()
    for key, sizes in writes:
        there[key] = state(*sizes)
        told(Space.OBJECT, b"k%d" % key, encode(there[key]) if sizes else b"")
    expected = NO_USE
    for one in there.values():
        expected = expected.plus(use_of(one))
    assert told.found[BUCKET].use == expected


def test_an_upload_counts_until_it_ends() -> None:
    told = Told()
    told.bucket(quota=BucketQuota(9, 3))
    told(Space.UPLOAD, upload_name(b"k", UPLOAD), encode(UploadState(b"k", 1, {})))
    told(Space.PART, part_name(UPLOAD, 1), encode(PartState(1, 30, "e", 1, {}, ())))
    told(Space.PART, part_name(UPLOAD, 2), encode(PartState(2, 12, "e", 1, {}, ())))
    assert told.found[BUCKET] == BucketUse(BUCKET.hex(), "photos", Use(0, 0, 0, 0, 1, 42), BucketQuota(9, 3))
    told(Space.UPLOAD, upload_name(b"k", UPLOAD), encode(UploadState(b"k", 1, {}, "aborted")))
    told.inventory.end_parts(1)
    assert told.found[BUCKET].use == NO_USE


def test_what_a_deleted_bucket_left_is_nobodys() -> None:
    told = Told()
    told.bucket()
    told(Space.OBJECT, b"k", encode(state(5)))
    other = BucketId(bytes(15) + b"\x08")
    told.bucket(other)
    assert told.found == {other: BucketUse(other.hex(), "photos", NO_USE, None)}
    told(Space.BUCKET, b"photos", b"", SYSTEM_BUCKET)
    assert told.found == {}


def test_only_pages_that_changed_are_put_again_and_the_time_always() -> None:
    async def main() -> tuple[list[int], list[int]]:
        store = LocalCoordinator(CoordinatorStore(), SystemClock())
        board = UsageBoard(store)
        other = BucketId(bytes(15) + b"\x08")
        found = {id: BucketUse(id.hex(), f"b{id[-1]}", Use(1, 1, 0, 5)) for id in (BUCKET, other)}
        await board.publish(found, 10)
        before = {entry.key: entry.revision for entry in (await store.range(USAGE))[0]}
        found[other] = BucketUse(other.hex(), "b8", Use(2, 2, 0, 9))
        await board.publish(found, 20)
        after = {entry.key: entry.revision for entry in (await store.range(USAGE))[0]}
        changed = sorted(int(key.removeprefix(USAGE)) for key in after if after[key] != before[key])
        usage = await read_usage(store)
        assert usage is not None and usage.buckets == {id.hex(): one for id, one in found.items()}
        assert usage.head.as_of_ms == 20 and usage.head.total == Use(3, 3, 0, 14)
        return changed, [len(before)]

    assert run(main, 1)[0] == ([8], [64])


def test_the_survey_follows_a_cluster_and_knows_how_old_what_it_knows_is() -> None:
    async def main() -> None:
        async with MappedCluster(31) as sim:
            engine = sim.engines[0]
            looker = Looker(sim)
            await looker.look()
            assert looker.surveyor.known_at > float("-inf")
            await engine.create_bucket("b")
            for number in range(8):
                await put(sim, f"k{number}", 50_000 if number % 2 else 10)
            await engine.delete_object("b", "k0")
            done = sim.loop.time()
            while looker.surveyor.known_at <= done:
                await looker.look()
            id = (await engine.get_bucket("b")).id
            assert looker.inventory.usage.found()[id].use == Use(7, 7, 0, 4 * 50_000 + 3 * 10)

    run(main, 31)


def test_without_a_majority_what_is_known_grows_older() -> None:
    async def main() -> None:
        async with MappedCluster(32) as sim:
            await sim.engines[0].create_bucket("b")
            await put(sim, "k", 10)
            looker = Looker(sim)
            await looker.directory.wait_ready(10)
            heard = sorted(looker.directory.nodes)[:2]

            def deaf(node: NodeId, request: Request) -> None:
                if node not in heard:
                    raise Unreachable("it is not connected yet")

            looker.calls.instead = deaf
            await looker.look(2)
            assert looker.surveyor.known_at == float("-inf"), "some partitions were never read: nothing is published"
            looker.calls.instead = lambda node, request: None
            await looker.look(2)
            known_at = looker.surveyor.known_at
            assert known_at > float("-inf")
            looker.calls.instead = deaf
            await looker.look(2)
            assert looker.surveyor.known_at <= known_at

    run(main, 32)

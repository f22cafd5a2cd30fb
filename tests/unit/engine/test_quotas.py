"""Quotas over the memory engine: what fits is written, what does not is refused before its body is read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from objstore.cluster.usage import Measured
from objstore.engine.metering import added
from objstore.model import bucketconfig, limits
from objstore.model.errors import QuotaExceeded
from objstore.model.ids import BucketId
from objstore.model.quota import BucketQuota, Need
from objstore.model.records import KeyState, ObjectVersion, Space, encode
from objstore.model.usage import Use
from objstore.ports import Buffer
from tests.s3.memory_engine import MemoryEngine


class Board:
    """What the repairer has published."""

    def __init__(self) -> None:
        self.now = Measured(Use(), 1)

    async def measured(self, bucket: BucketId) -> Measured:
        await asyncio.sleep(0)
        return self.now


class Stand:
    def __init__(self, quota: BucketQuota) -> None:
        self.board = Board()
        self.engine = MemoryEngine(self.board)
        self.quota = quota
        self.taken = 0  # bodies that were begun

    async def open(self, *, versioning: str = "") -> None:
        await self.engine.create_bucket("b", versioning=versioning, config=bucketconfig.encoded(self.quota))

    async def _body(self, data: bytes) -> AsyncIterator[Buffer]:
        self.taken += 1
        yield data

    async def put(self, key: str, size: int, body: AsyncIterator[Buffer] | None = None) -> None:
        await self.engine.put_object("b", key, body or self._body(bytes(size)), size, {})

    async def part(self, key: str, upload: str, number: int, size: int) -> str:
        part = await self.engine.put_part("b", key, upload, number, self._body(bytes(size)), size)
        return part.etag

    async def refused(self, work: Awaitable[object]) -> None:
        with pytest.raises(QuotaExceeded, match="objstore bucket quota b"):
            await work


def run(quota: BucketQuota, main: Callable[[Stand], Awaitable[None]], *, versioning: str = "") -> None:
    async def begin() -> None:
        stand = Stand(quota)
        await stand.open(versioning=versioning)
        await main(stand)

    asyncio.run(begin())


def test_what_does_not_fit_is_refused_before_a_byte_of_it_is_read() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 60)
        await stand.put("c", 40)
        before = stand.taken
        await stand.refused(stand.put("d", 1))
        assert stand.taken == before
        await stand.put("empty", 0)

    run(BucketQuota(bytes=100), main)


def test_a_write_that_replaces_adds_only_what_it_is_larger() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 90)
        await stand.put("a", 100)
        await stand.put("a", 80)
        await stand.refused(stand.put("a", 101))
        assert (await stand.engine.head_object("b", "a")).size == 80

    run(BucketQuota(bytes=100, objects=1), main)


def test_with_versions_nothing_is_replaced() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 60)
        await stand.refused(stand.put("a", 60))
        await stand.engine.delete_object("b", "a")  # a marker
        await stand.refused(stand.put("a", 60))
        versions = (await stand.engine.list_versions("b")).entries
        old = next(one for one in versions if not one.marker)
        await stand.engine.delete_object("b", "a", old.version_id)
        await stand.put("a", 60)

    run(BucketQuota(bytes=100), main, versioning="Enabled")


def test_objects_are_counted_and_deletes_make_room_at_once() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 1)
        await stand.put("c", 1)
        await stand.refused(stand.put("d", 1))
        await stand.engine.delete_object("b", "a")
        await stand.put("d", 1)

    run(BucketQuota(objects=2), main)


def test_writes_at_the_same_time_do_not_share_their_room() -> None:
    async def main(stand: Stand) -> None:
        go = asyncio.Event()

        async def slow(size: int) -> AsyncIterator[Buffer]:
            await go.wait()
            yield bytes(size)

        async def one(number: int) -> bool:
            try:
                await stand.put(f"k{number}", 30, slow(30))
            except QuotaExceeded:
                return False
            return True

        writes = [asyncio.create_task(one(number)) for number in range(10)]
        await asyncio.sleep(0.01)
        go.set()
        assert sum(await asyncio.gather(*writes)) == 3
        assert len((await stand.engine.list_objects("b")).entries) == 3

    run(BucketQuota(bytes=100), main)


def test_a_write_that_fails_gives_its_room_back() -> None:
    async def main(stand: Stand) -> None:
        async def broken() -> AsyncIterator[Buffer]:
            yield bytes(10)
            raise ConnectionResetError

        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                await stand.put("a", 80, broken())
        await stand.put("a", 80)

    run(BucketQuota(bytes=100), main)


def test_what_was_deleted_while_its_replacement_came_in_is_not_taken_for_room() -> None:
    """Decided where it is known what is replaced: inside the change."""

    async def main(stand: Stand) -> None:
        await stand.put("a", 60)

        async def meanwhile() -> AsyncIterator[Buffer]:
            await stand.engine.delete_object("b", "a")
            await stand.put("other", 60)
            yield bytes(90)

        await stand.refused(stand.put("a", 90, meanwhile()))
        assert [one.key for one in (await stand.engine.list_objects("b")).entries] == ["other"]

    run(BucketQuota(bytes=100), main)


def test_parts_count_when_they_come_and_the_object_made_of_them_does_not_again() -> None:
    size = limits.PART_SIZE_MIN

    async def main(stand: Stand) -> None:
        upload = await stand.engine.create_upload("b", "a", {})
        first = await stand.part("a", upload, 1, size)
        second = await stand.part("a", upload, 2, size)
        await stand.part("a", upload, 2, size)  # again
        await stand.refused(stand.part("a", upload, 3, 1))
        await stand.engine.complete_upload("b", "a", upload, [(1, first), (2, second)])
        assert hashlib.md5(bytes(size)).hexdigest() == first
        await stand.refused(stand.put("c", 1))

    run(BucketQuota(bytes=2 * size), main)


def test_an_upload_is_not_completed_beyond_the_number_of_objects() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 1)
        upload = await stand.engine.create_upload("b", "c", {})
        part = await stand.part("c", upload, 1, 5)
        await stand.refused(stand.engine.complete_upload("b", "c", upload, [(1, part)]))
        await stand.engine.delete_object("b", "a")
        await stand.engine.complete_upload("b", "c", upload, [(1, part)])

    run(BucketQuota(objects=1), main)


def test_what_others_wrote_counts_once_it_is_measured_and_what_was_measured_is_not_added_again() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 40)
        later = 1 << 50  # after all that was written here
        stand.board.now = Measured(Use(1, 1, 0, 40), later)
        await stand.put("c", 60)
        stand.board.now = Measured(Use(3, 3, 0, 130), later + 1)  # another gateway wrote, too
        await stand.refused(stand.put("d", 1))
        await stand.engine.delete_object("b", "c")

    run(BucketQuota(bytes=100), main)


def test_a_quota_that_is_taken_away_holds_no_more() -> None:
    async def main(stand: Stand) -> None:
        await stand.put("a", 90)
        await stand.refused(stand.put("c", 90))
        await stand.engine.configure_bucket("b", lambda it: bucketconfig.without(it, BucketQuota))
        await stand.put("c", 90)

    run(BucketQuota(bytes=100), main)


def test_what_a_change_adds() -> None:
    def version(id: int, size: int, *, upload: bytes = b"", marker: bool = False) -> ObjectVersion:
        return ObjectVersion(id.to_bytes(16, "big"), size, "e", 1, {}, (), upload_id=upload, marker=marker)

    def body(*versions: ObjectVersion) -> bytes:
        return encode(KeyState(versions))

    old, new = version(1, 10), version(2, 25)
    assert added(Space.OBJECT, b"", body(old)) == Need(10, 1)
    assert added(Space.OBJECT, body(old), body(new)) == Need(15, 0)
    assert added(Space.OBJECT, body(new, old), body(old)) == Need(-25, -1)
    assert added(Space.OBJECT, body(old), b"") == Need(-10, -1)
    assert added(Space.OBJECT, body(old), body(version(3, 0, marker=True), old)) == Need()
    assert added(Space.OBJECT, body(old), body(version(3, 70, upload=b"u"))) == Need(-10, 0)
    made = version(3, 70, upload=b"u")
    amended = msgspec.structs.replace(made, tags={"a": "b"})
    assert added(Space.OBJECT, body(made), body(amended)) == Need()
    assert added(Space.OBJECT, body(made), body()) == Need(-70, -1)

"""The list of what is hurt: the worst first, with places, reasons and what happens next."""

from __future__ import annotations

import asyncio

from objstore.model.ids import BucketId
from objstore.model.records import Space
from objstore.model.survey import Damage, HurtShard
from objstore.repair.damage import LISTED_MAX, PER_PAGE, item_name, name_of, pages, printable
from objstore.repair.dispatcher import Silence
from objstore.repair.record import Record
from tests.sim.loop import run
from tests.unit.repair.test_dispatcher import NODES, Bench, lose, misplace


def name_bucket(bench: Bench) -> None:
    bench.inventory.set_record(1, b"s" * 16 + bytes((Space.BUCKET,)) + b"photos", Record(b"b", bucket=bytes(16)))


async def listed(bench: Bench) -> list[Damage]:
    return (await pages(bench.inventory, bench.dispatcher, 1, asyncio.get_running_loop().time()))[0].items


def test_the_worst_come_first_and_each_says_where_why_and_what_next() -> None:
    async def main() -> None:
        bench = Bench(5, missing=0)
        name_bucket(bench)
        unreadable, reduced, misplaced, failing = bench.blobs[3], bench.blobs[1], bench.blobs[0], bench.blobs[2]
        misplace(bench, misplaced)
        for shard in (0, 2):
            lose(bench, unreadable, shard)
        lose(bench, reduced, 1)
        lose(bench, failing, 0)
        bench.executor.broken = {failing.id, reduced.id}
        assert [one.next for one in await listed(bench)] == [f"queued, position {place}" for place in (1, 2, 3, 4)]
        working = asyncio.create_task(bench.work(100))
        await asyncio.sleep(0.2)
        first = await listed(bench)
        assert [(one.bucket, one.key, one.kind) for one in first] == [
            ("photos", "key3", "unreadable"),
            ("photos", "key1", "minimum"),
            ("photos", "key2", "minimum"),
            ("photos", "key0", "misplaced"),
        ]
        home = bench.topology.data_owners(bench.topology.partition_of_blob(reduced.id, 0))[1]
        assert first[1].hurt == [HurtShard(0, 1, home[0], "missing")] and first[1].hurt_total == 1
        assert first[0].next.startswith("too many shards are gone")
        assert first[1].next == "being repaired now"
        assert first[3].hurt[0].why == "misplaced"
        await asyncio.sleep(0.2)
        assert "failed " in (await listed(bench))[1].next and "no room" in (await listed(bench))[1].next
        assert item_name(bench.inventory, next(iter(bench.dispatcher.failures))).startswith("photos/key")
        bench.executor.broken = set()
        await working
        assert [one.key for one in await listed(bench)] == ["key3"]

    run(main, 1)


def test_a_node_that_does_not_answer_is_named() -> None:
    async def main() -> None:
        bench = Bench(3, missing=0)
        gone = NODES[1]
        bench.live(*(node for node in NODES if node != gone))
        bench.judge()
        bench.silence = Silence(frozenset([gone]), frozenset([gone]))
        await bench.work(2)
        for one in await listed(bench):
            assert one.hurt[0].node == gone[0] and one.hurt[0].why == "node down"
            assert one.next.startswith("waits for its node")

    run(main, 2)


def test_the_list_is_bounded_and_paged() -> None:
    async def main() -> None:
        bench = Bench(200, missing=1)
        found = await pages(bench.inventory, bench.dispatcher, 7, 0.0)
        assert [len(page.items) for page in found] == [PER_PAGE, PER_PAGE] and {page.total for page in found} == {200}
        assert LISTED_MAX % PER_PAGE == 0
        whole = await pages(Bench(1, missing=0).inventory, bench.dispatcher, 7, 0.0)
        assert [(page.total, page.items) for page in whole] == [(0, [])]

    run(main, 3)


def test_names_are_printable_and_parts_are_named_by_their_upload() -> None:
    async def main() -> None:
        assert printable("grün\n\x1b[0m".encode() + b"\xff") == "grün\\n\\x1b[0m\\xff"
        bench = Bench(1)
        name_bucket(bench)
        part = bytes(16) + bytes((Space.PART,)) + b"u" * 16 + b"\x00\x07"
        assert name_of(bench.inventory, part) == ("photos", f"part 7 of upload {(b'u' * 16).hex()}")
        upload = bytes(16) + bytes((Space.UPLOAD,)) + b"k\x00" + b"u" * 16
        assert name_of(bench.inventory, upload) == ("photos", f"k (upload {(b'u' * 16).hex()})")
        bench.inventory.set_record(1, b"s" * 16 + bytes((Space.BUCKET,)) + b"photos", None)
        assert name_of(bench.inventory, part)[0] == f"bucket {BucketId(bytes(16)).hex()}"

    run(main, 4)

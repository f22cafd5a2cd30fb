"""A store is opened only after a child has read it: what rotted is set aside, whatever reading it does to the child."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from objstore.adapters.disk import LocalDisk
from objstore.adapters.kv import LmdbKV
from objstore.cli.store import open_store
from objstore.model.errors import Fatal
from objstore.node import damage, sealed
from objstore.node.sealed import SealedKV
from objstore.ports import Write

TABLES = ("a", "b", sealed.TABLE)
COUNTED = ("a", "b")
PAGE = 4096


def written(path: Path) -> dict[bytes, bytes]:
    """Rows of all sizes, some of them changed and removed again, so that old pages lie about."""
    kv = LmdbKV(path, TABLES)
    store, chance = SealedKV(kv, COUNTED), Random(4)
    rows: dict[bytes, bytes] = {}
    for _ in range(12):
        batch = [
            (chance.randbytes(chance.choice((4, 40))), chance.randbytes(chance.choice((9, 90, 900, 9000))))
            for _ in range(30)
        ]
        gone = chance.sample(sorted(rows), len(rows) // 4)
        writes: list[Write] = [*(("a", *pair) for pair in batch), *(("a", key, None) for key in gone)]
        store.commit(writes)
        rows.update(batch)
        for key in gone:
            del rows[key]
    store.close()
    return rows


def opened(folder: Path) -> tuple[LocalDisk, dict[bytes, bytes]]:
    """The store again, and all that it says."""
    disk = LocalDisk(folder)
    store = SealedKV(open_store(disk, "kv", TABLES, COUNTED), COUNTED)
    rows = dict(store.scan("a", b""))
    assert all(store.get("a", key) == value for key, value in rows.items())
    store.close()
    return disk, rows


def test_what_rots_is_noticed_or_is_of_no_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    rows = written(tmp_path / "good")
    good = (tmp_path / "good" / "data.mdb").read_bytes()
    chance, seen = Random(5), Counter[str]()
    for number in range(60):
        folder = tmp_path / f"{number}"
        (folder / "kv").mkdir(parents=True)
        rotten = bytearray(good)
        for _ in range(chance.choice((1, 1, 3))):
            page = chance.randrange(0, len(good), PAGE)
            at = page + chance.choice(
                (chance.randrange(64), chance.randrange(PAGE))
            )  # headers more often than their share
            rotten[at] ^= 1 << chance.randrange(8)
        (folder / "kv" / "data.mdb").write_bytes(rotten)
        disk, found = opened(folder)
        if disk.exists("kv.damaged-1"):
            assert found == {} and not damage.is_marked(disk, "kv")
            assert (folder / "kv.damaged-1" / "data.mdb").read_bytes() == rotten
            seen["aside"] += 1
        else:
            assert found == rows, number
            seen["sound"] += 1
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize("harm", ["cut", "noise", "zeros"])
def test_a_file_that_is_no_store_any_more_is_set_aside(tmp_path: Path, harm: str) -> None:
    written(tmp_path / "kv")
    file = tmp_path / "kv" / "data.mdb"
    good = file.read_bytes()
    half = len(good) // 2
    file.write_bytes(
        {"cut": good[:half], "noise": Random(1).randbytes(len(good)), "zeros": good[: 2 * PAGE] + bytes(half)}[harm]
    )
    disk, found = opened(tmp_path)
    assert found == {} and disk.exists("kv.damaged-1")


def test_a_marked_store_is_set_aside_also_when_that_was_interrupted(tmp_path: Path) -> None:
    rows = written(tmp_path / "kv")
    disk = LocalDisk(tmp_path)
    assert opened(tmp_path)[1] == rows
    damage.mark(disk, "kv", "a test says so")
    disk.rename("kv", "kv.damaged-1")  # and here the power went
    assert opened(tmp_path)[1] == {}
    assert [name for name in disk.list_dir("") if name.startswith("kv")] == ["kv", "kv.damaged-1"]


def test_after_three_damaged_stores_a_person_must_look(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    for number in range(1, damage.KEPT_MAX + 1):
        opened(tmp_path)
        damage.mark(disk, "kv", f"reason {number}")
        opened(tmp_path)
        assert disk.exists(f"kv.damaged-{number}")
    damage.mark(disk, "kv", "once more")
    for _ in range(2):
        with pytest.raises(Fatal, match=r"once more.*kv\.damaged-1, kv\.damaged-2, kv\.damaged-3.*Check or replace"):
            opened(tmp_path)
    (tmp_path / "kv.damaged-2").rename(tmp_path / "looked at")
    opened(tmp_path)
    assert disk.exists("kv.damaged-2")


def test_without_what_takes_its_place_a_damaged_store_stays(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    written(tmp_path / "kv")
    damage.mark(disk, "kv", "a test says so")
    with pytest.raises(Fatal, match="map is gone"):
        open_store(disk, "kv", TABLES, COUNTED, substitute="map")
    assert disk.exists("kv")
    disk.write_file("map", b"")
    open_store(disk, "kv", TABLES, COUNTED, substitute="map").close()
    assert disk.exists("kv.damaged-1")


def test_what_cannot_be_checked_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "kv" / "data.mdb").mkdir(parents=True)
    with pytest.raises(Fatal, match=r"could not be checked.*cannot be opened"):
        opened(tmp_path)
    assert not damage.is_marked(LocalDisk(tmp_path), "kv") and (tmp_path / "kv").exists()


@pytest.mark.parametrize("left", [20, 1000])
def test_a_store_cut_anywhere_is_set_aside_or_can_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: int
) -> None:
    """The list of free pages is read by no row, and by every commit: without it the node would end by SIGBUS."""
    caplog.set_level(logging.CRITICAL + 1)
    rows = written(tmp_path / "good")
    store = SealedKV(LmdbKV(tmp_path / "good", TABLES), COUNTED)
    for key in sorted(rows)[left:]:  # with few left most pages are free ones, among them some of the last
        store.commit([("a", key, None)])
        del rows[key]
    store.close()
    good = (tmp_path / "good" / "data.mdb").read_bytes()
    seen = Counter[str]()
    for pages in range(len(good) // PAGE - 1, 2, -max(1, len(good) // PAGE // 20)):
        folder = tmp_path / f"{pages}"
        (folder / "kv").mkdir(parents=True)
        (folder / "kv" / "data.mdb").write_bytes(good[: pages * PAGE])
        disk, found = opened(folder)
        if disk.exists("kv.damaged-1"):
            assert found == {}
            seen["aside"] += 1
            continue
        assert found == rows, pages
        seen["sound"] += 1
        child = os.fork()  # what comes may end it
        if child == 0:
            store = SealedKV(LmdbKV(folder / "kv", TABLES), COUNTED)
            for number in range(20):
                store.commit([("a", b"more%d" % number, bytes(5000)), ("a", sorted(rows)[number], None)])
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, pages
    assert seen["aside"] and (seen["sound"] or left == 1000), seen


def test_a_value_that_would_reach_behind_the_end_is_damage(tmp_path: Path) -> None:
    """Some kernels tell it when the value is copied anywhere, others only when somebody reads the copy."""
    store = SealedKV(LmdbKV(tmp_path / "kv", TABLES), COUNTED)
    store.commit([("a", b"key %02d" % number, b"\xab" * 5 * PAGE) for number in range(50)])
    store.close()
    file = tmp_path / "kv" / "data.mdb"
    raw = bytearray(file.read_bytes())
    start = raw.index(b"\xab" * PAGE)  # behind 16 bytes: number of the page, flags, and how many follow (4 bytes)
    assert start % PAGE == 16 and int.from_bytes(raw[start - 4 : start], "little") == 6
    raw[start - 2] = 1
    file.write_bytes(raw)
    disk, found = opened(tmp_path)
    assert found == {} and disk.exists("kv.damaged-1")

"""One suite for every KV: LMDB, and the simulated one that crash tests rely on."""

from __future__ import annotations

import errno
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.adapters.kv import KEY_BYTES_MAX, LmdbKV, default_map_size
from objstore.model.errors import Fatal
from objstore.ports import KV, DamagedKV, Write
from tests.sim.kv import SimKV

MIB = 1024 * 1024


@pytest.fixture(params=["lmdb", "sim"])
def kv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KV]:
    opened: KV = LmdbKV(tmp_path / "kv", ["a", "b"]) if request.param == "lmdb" else SimKV(["a", "b"])
    yield opened
    opened.close()


def test_a_commit_is_all_of_it_in_order(kv: KV) -> None:
    kv.commit([("a", b"k", b"1"), ("b", b"k", b"2"), ("a", b"gone", b"x"), ("a", b"gone", None), ("a", b"k", b"3")])
    assert (kv.get("a", b"k"), kv.get("b", b"k"), kv.get("a", b"gone")) == (b"3", b"2", None)


def test_deleting_what_is_not_there_is_no_error(kv: KV) -> None:
    kv.commit([("a", b"nothing", None)])
    assert kv.get("a", b"nothing") is None


def test_usage_rises_with_what_is_stored_and_falls_with_deletes(kv: KV) -> None:
    empty, size = kv.usage()
    rows: list[Write] = [("a", b"%04d" % i, bytes(1000)) for i in range(500)]
    kv.commit(rows)
    used, same_size = kv.usage()
    assert 500_000 <= used - empty < 1_000_000 and size == same_size > used
    kv.commit([(table, key, None) for table, key, _ in rows[:400]])
    assert kv.usage()[0] - empty < 0.4 * (used - empty)
    kv.commit([("b", b"large", bytes(300_000))])
    assert kv.usage()[0] > 300_000, "values that have pages of their own count too"


def test_empty_values_are_values(kv: KV) -> None:
    kv.commit([("a", b"k", b"")])
    assert kv.get("a", b"k") == b""
    assert kv.scan("a", b"") == [(b"k", b"")]


def test_scan_is_half_open_ordered_and_limited(kv: KV) -> None:
    keys = [b"\x00", b"a", b"a\x00", b"ab", b"b", b"\xff\xff"]
    kv.commit([("a", key, key) for key in reversed(keys)])
    assert [key for key, _ in kv.scan("a", b"")] == keys
    assert [key for key, _ in kv.scan("a", b"a", b"b")] == [b"a", b"a\x00", b"ab"]
    assert [key for key, _ in kv.scan("a", b"a", b"b", limit=2)] == [b"a", b"a\x00"]
    assert kv.scan("a", b"a", limit=0) == []
    assert kv.scan("a", b"b", b"a") == []
    assert kv.scan("b", b"") == []


@pytest.mark.parametrize("key", [b"", bytes(KEY_BYTES_MAX + 1)])
def test_keys_out_of_bounds_are_refused_and_nothing_is_stored(kv: KV, key: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        kv.commit([("a", b"good", b"1"), ("a", key, b"1")])
    with pytest.raises(ValueError, match="bytes"):
        kv.get("a", key)
    assert kv.get("a", b"good") is None
    kv.commit([("a", bytes(KEY_BYTES_MAX), b"1")])
    assert kv.get("a", bytes(KEY_BYTES_MAX)) == b"1"


def test_unknown_tables_are_refused(kv: KV) -> None:
    with pytest.raises(ValueError, match="no table"):
        kv.get("c", b"k")
    with pytest.raises(ValueError, match="no table"):
        kv.commit([("a", b"k", b"1"), ("c", b"k", b"1")])
    assert kv.get("a", b"k") is None


def test_a_full_store_takes_nothing_of_a_commit_and_still_deletes(tmp_path: Path) -> None:
    for kv in (LmdbKV(tmp_path / "kv", ["a"], map_size=2 * MIB), SimKV(["a"], capacity=2 * MIB)):
        kv.commit([("a", b"old%d" % i, bytes(40_000)) for i in range(20)])
        with pytest.raises(OSError) as caught:
            kv.commit([("a", b"new%d" % i, bytes(40_000)) for i in range(60)])
        assert caught.value.errno == errno.ENOSPC
        assert kv.get("a", b"new0") is None and len(kv.scan("a", b"")) == 20
        kv.commit([("a", b"old%d" % i, None) for i in range(20)])
        kv.commit([("a", b"new", bytes(40_000))])
        assert len(kv.scan("a", b"")) == 1
        kv.close()


@pytest.mark.parametrize(("free_blocks", "expected"), [(0, errno.ENOSPC), (1 << 30, errno.EIO)])
def test_a_write_that_is_cut_short_means_a_full_disk_only_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_blocks: int, expected: int
) -> None:
    kv = LmdbKV(tmp_path / "kv", ["a"])
    kv.commit([("a", b"old", b"1")])
    found = list(os.statvfs(tmp_path))
    found[4] = free_blocks
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(found))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "kv" / "data.mdb").stat().st_size + 100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="Input/output error") as caught:
            kv.commit([("a", b"new", bytes(300_000)), ("a", b"old", b"2")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == expected
    assert kv.scan("a", b"") == [(b"old", b"1")]
    kv.commit([("a", b"new", bytes(300_000))])
    kv.close()
    again = LmdbKV(tmp_path / "kv", ["a"])
    assert again.get("a", b"new") == bytes(300_000) and again.get("a", b"old") == b"1"
    again.close()


def test_commits_outlive_the_environment(tmp_path: Path) -> None:
    kv = LmdbKV(tmp_path / "kv", ["a"])
    kv.commit([("a", b"k", b"1")])
    kv.close()
    again = LmdbKV(tmp_path / "kv", ["a", "b"])
    assert again.get("a", b"k") == b"1"
    again.close()


def test_a_damaged_environment_is_told_from_one_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(DamagedKV, match="MDB_INVALID"):
        LmdbKV(tmp_path / "kv", ["a"])
    (tmp_path / "kv" / "data.mdb").unlink()
    (tmp_path / "kv" / "data.mdb").mkdir()
    with pytest.raises(Fatal, match="move that folder away"):
        LmdbKV(tmp_path / "kv", ["a"])


@pytest.mark.parametrize("metas", [1, 2])
def test_a_file_of_another_version_is_not_damaged_unless_it_contradicts_itself(tmp_path: Path, metas: int) -> None:
    LmdbKV(tmp_path / "kv", ["a"]).close()
    with (tmp_path / "kv" / "data.mdb").open("r+b") as file:
        for meta in range(metas):
            file.seek(meta * mmap.PAGESIZE + 16 + 4)  # the version follows the page header and the magic
            file.write(b"\x41")
    with pytest.raises((Fatal, DamagedKV)) as caught:
        LmdbKV(tmp_path / "kv", ["a"])
    assert isinstance(caught.value, Fatal if metas == 2 else DamagedKV)


def test_a_window_shows_where_a_scan_ended(kv: KV) -> None:
    kv.commit([("a", key, b"") for key in (b"b", b"d", b"f", b"h")])

    def seen(start: bytes, end: bytes | None = None, limit: int | None = None) -> list[bytes]:
        return [b"".join(key for key, _ in rows) for rows in kv.window("a", start, end, limit=limit)]

    assert seen(b"") == [b"", b"bdfh", b""]
    assert seen(b"c", b"g") == [b"b", b"df", b"h"]
    assert seen(b"d", b"h") == [b"b", b"df", b"h"]
    assert seen(b"d", limit=2) == [b"b", b"df", b""]
    assert seen(b"c", b"d") == [b"b", b"", b"d"]
    assert seen(b"a", b"b") == [b"", b"", b"b"]
    assert seen(b"i") == [b"h", b"", b""]
    assert kv.window("b", b"a") == ([], [], [])


def test_the_map_is_large_and_costs_nothing(tmp_path: Path) -> None:
    assert default_map_size(str(tmp_path / "not" / "there")) >= 1024 * MIB
    kv = LmdbKV(tmp_path / "kv", ["a"])
    assert (tmp_path / "kv" / "data.mdb").stat().st_size < MIB
    kv.close()


KEYS = st.binary(min_size=1, max_size=3)
BATCHES = st.lists(st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=6), max_size=6)


@settings(max_examples=50, deadline=None)
@given(batches=BATCHES, start=st.binary(max_size=3), end=st.none() | KEYS, limit=st.none() | st.integers(0, 5))
def test_real_and_simulated_agree(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[bytes, bytes | None]]],
    start: bytes,
    end: bytes | None,
    limit: int | None,
) -> None:
    real, fake = LmdbKV(tmp_path_factory.mktemp("kv"), ["a"]), SimKV(["a"])
    for batch in batches:
        writes: list[Write] = [("a", key, value) for key, value in batch]
        real.commit(writes)
        fake.commit(writes)
    assert real.scan("a", start, end, limit=limit) == fake.scan("a", start, end, limit=limit)
    assert real.window("a", start, end, limit=limit) == fake.window("a", start, end, limit=limit)
    real.close()

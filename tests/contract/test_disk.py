"""One suite for every Disk: the local file system, and the simulated one that crash tests rely on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from objstore.adapters.disk import LocalDisk
from objstore.model.errors import Fatal
from objstore.ports import Disk
from tests.sim.disk import SimDisk

MIB = 1024 * 1024


@pytest.fixture(params=["local", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return LocalDisk(tmp_path / "data") if request.param == "local" else SimDisk()


def test_reads_what_was_written_and_zeros_between(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(b"head", 0)
    file.pwrite(memoryview(b"tail"), 10)
    assert file.pread(100, 0) == b"head" + bytes(6) + b"tail"
    assert file.pread(4, 12) == b"il"
    assert file.pread(4, 14) == b""
    assert file.size() == 14


def test_two_handles_of_one_file_see_each_other(disk: Disk) -> None:
    first = disk.open("a", create=True)
    first.pwrite(b"x" * 5000, 0)
    second = disk.open("a", create=True)
    assert second.pread(5000, 0) == b"x" * 5000


def test_opening_what_is_not_there_fails(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("nothing")
    with pytest.raises(FileNotFoundError):
        disk.open("no/folder", create=True)
    with pytest.raises(FileNotFoundError):
        disk.unlink("nothing")
    with pytest.raises(FileNotFoundError):
        disk.read_file("nothing")
    with pytest.raises(FileNotFoundError):
        disk.list_dir("nothing")


def test_punched_range_reads_as_zeros_and_keeps_the_size(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(b"x" * 16384, 0)
    file.sync()
    file.punch(4096, 8192)
    assert file.size() == 16384
    assert file.pread(16384, 0) == b"x" * 4096 + bytes(8192) + b"x" * 4096


def test_punched_space_returns_to_the_file_system(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(os.urandom(8 * MIB), 0)
    file.sync()
    before, total = disk.space()
    file.punch(0, 8 * MIB)
    if isinstance(disk, LocalDisk):  # others use this file system too: look at the file's own blocks
        assert os.stat(os.path.join(disk.root, "a")).st_blocks == 0
    else:
        assert disk.space()[0] - before == 8 * MIB
    assert disk.space()[1] == total


def test_what_is_let_go_of_by_the_cache_is_still_what_was_written(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(b"x" * 10_000, 0)
    file.uncache(0, 10_000)  # not on the medium yet: it must not be lost
    file.sync()
    file.uncache(0, 10_000)
    file.uncache(8192, 1 << 40)
    file.uncache(0, 0)
    assert file.pread(20_000, 0) == b"x" * 10_000


def test_a_read_from_memory_gives_all_that_was_asked_for_or_nothing(disk: Disk) -> None:
    file = disk.open("f", create=True)
    file.pwrite(bytes(range(256)) * 64, 0)
    for offset, length in ((0, 16384), (4096, 12288), (4097, 5000), (16000, 384)):
        found = file.pread_cached(length, offset)
        assert found is None or bytes(found) == file.pread(length, offset)
    assert file.pread_cached(385, 16000) is None  # it ends before
    assert file.pread_cached(1, 1 << 30) is None


def test_folders_and_names(disk: Disk) -> None:
    disk.make_dir("x/y")
    disk.make_dir("x/y")
    disk.open("x/b", create=True)
    disk.open("x/a", create=True)
    disk.sync_dir("x")
    assert disk.list_dir("x") == ["a", "b", "y"]
    assert disk.list_dir("") == ["x"]
    assert disk.exists("x/a") and disk.exists("x/y") and not disk.exists("x/c")
    disk.rename("x/a", "x/b")
    disk.unlink("x/b")
    assert disk.list_dir("x") == ["y"]


def test_a_file_in_the_way_of_a_folder_is_an_error(disk: Disk) -> None:
    disk.open("x", create=True)
    with pytest.raises(NotADirectoryError):
        disk.make_dir("x/y")


def test_write_file_replaces_the_whole_content(disk: Disk) -> None:
    disk.write_file("id", b"a long first content")
    disk.write_file("id", b"short")
    assert disk.read_file("id") == b"short"
    assert disk.list_dir("") == ["id"]


def test_an_unlinked_open_file_stays_readable(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(b"kept", 0)
    disk.unlink("a")
    assert file.pread(4, 0) == b"kept"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x"])
def test_paths_never_leave_the_root(disk: Disk, path: str) -> None:
    with pytest.raises(ValueError, match="leaves the data folder"):
        disk.open(path, create=True)


def test_one_process_per_data_folder(tmp_path: Path) -> None:
    first, second = LocalDisk(tmp_path), LocalDisk(tmp_path)
    first.lock()
    with pytest.raises(Fatal, match="in use by another process"):
        second.lock()
    first.close()
    second.lock()
    second.close()


def test_a_dropped_file_closes_its_descriptor(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        disk.open("a", create=True)
    assert len(os.listdir("/proc/self/fd")) == before


# --- what only the simulated one can do -------------------------------------------------------------------------


def crash_often(prepare: Callable[[SimDisk], None]) -> list[SimDisk]:
    crashed = []
    for seed in range(60):
        disk = SimDisk()
        prepare(disk)
        disk.crash(Random(seed))
        crashed.append(disk)
    return crashed


def test_crash_keeps_what_was_synced() -> None:
    def prepare(disk: SimDisk) -> None:
        file = disk.open("a", create=True)
        file.pwrite(b"x" * 2000, 0)
        file.sync()
        disk.sync_dir("")
        file.pwrite(b"y" * 2000, 2000)

    ends = {bytes(disk.read_file("a")) for disk in crash_often(prepare)}
    assert all(end.startswith(b"x" * 2000) for end in ends)
    assert {b"x" * 2000, b"x" * 2000 + b"y" * 2000} <= ends
    assert len(ends) > 2, "some writes should be torn"


def test_crash_may_lose_a_name_whose_folder_was_not_synced() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.open("a", create=True).sync()

    assert {disk.exists("a") for disk in crash_often(prepare)} == {True, False}


def test_crash_never_shows_half_of_a_rename() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.write_file("id", b"old")
        file = disk.open("id.tmp", create=True)
        file.pwrite(b"new", 0)
        file.sync()
        disk.rename("id.tmp", "id")

    assert {disk.read_file("id") for disk in crash_often(prepare)} == {b"old", b"new"}


def test_write_file_survives_every_crash() -> None:
    assert {disk.read_file("id") for disk in crash_often(lambda disk: disk.write_file("id", b"new"))} == {b"new"}


def test_files_opened_before_a_crash_are_dead() -> None:
    disk = SimDisk()
    file = disk.open("a", create=True)
    disk.crash(Random(1))
    with pytest.raises(OSError, match="before the crash"):
        file.pread(1, 0)


def test_a_full_disk_takes_nothing_of_a_write() -> None:
    disk = SimDisk(capacity=8192)
    file = disk.open("a", create=True)
    file.pwrite(bytes(8192), 0)
    with pytest.raises(OSError) as caught:
        file.pwrite(b"x", 8192)
    assert caught.value.errno == errno.ENOSPC
    assert file.size() == 8192 and disk.space() == (0, 8192)
    disk.unlink("a")
    assert disk.space() == (8192, 8192)

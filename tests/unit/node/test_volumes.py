"""Volumes: where extents go, and how their space comes back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest

from objstore.adapters.disk import LocalDisk
from objstore.model.errors import InvalidRequest
from objstore.node.volumes import BLOCK, Extent, Volumes, volume_path
from objstore.ports import Disk
from tests.sim.disk import SimDisk

VOLUME = 64 * BLOCK


def started(disk: Disk, kept: list[Extent] | None = None, files_max: int = 512) -> Volumes:
    volumes = Volumes(disk, volume_bytes=VOLUME, files_max=files_max)
    volumes.recover(kept or [])
    return volumes


def stored(volumes: Volumes, data: bytes) -> Extent:
    extent = volumes.reserve(len(data))
    volumes.file(extent.volume).pwrite(data, extent.offset)
    volumes.syncer(extent.volume)()
    volumes.keep(extent)
    return extent


def test_extents_are_aligned_and_never_overlap() -> None:
    volumes = started(SimDisk())
    random = Random(1)
    extents = [volumes.reserve(random.randint(1, 10 * BLOCK)) for _ in range(200)]
    ends: dict[int, int] = {}
    for volume, offset, length in extents:
        assert offset % BLOCK == 0 and offset >= ends.get(volume, 0)
        assert offset + length <= VOLUME
        ends[volume] = offset + length
    assert len(ends) > 3


def test_an_extent_larger_than_a_volume_is_refused() -> None:
    volumes = started(SimDisk())
    assert volumes.reserve(VOLUME).length == VOLUME
    for length in (0, VOLUME + 1):
        with pytest.raises(InvalidRequest, match="does not fit"):
            volumes.reserve(length)


def test_accounting_follows_an_extent_through_its_life() -> None:
    volumes = started(SimDisk())
    extent = volumes.reserve(BLOCK + 1)
    assert (volumes.reserved_bytes, volumes.kept_bytes) == (2 * BLOCK, 0)
    volumes.keep(extent)
    assert (volumes.reserved_bytes, volumes.kept_bytes) == (0, 2 * BLOCK)
    volumes.release([extent], kept=True)()
    assert (volumes.reserved_bytes, volumes.kept_bytes) == (0, 0)


def test_released_extents_return_their_blocks_to_a_real_file_system(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    volumes = started(disk)
    first, second = stored(volumes, os.urandom(8 * BLOCK)), stored(volumes, os.urandom(8 * BLOCK))
    path = tmp_path / volume_path(first.volume)
    assert path.stat().st_blocks * 512 >= 16 * BLOCK
    volumes.release([first], kept=True)()
    assert path.stat().st_blocks * 512 <= 8 * BLOCK
    assert volumes.file(second.volume).pread(8 * BLOCK, second.offset) != bytes(8 * BLOCK)


def test_an_empty_volume_that_takes_no_more_is_unlinked() -> None:
    disk = SimDisk()
    volumes = started(disk)
    first = stored(volumes, b"x" * VOLUME)
    second = stored(volumes, b"y" * BLOCK)
    assert (first.volume, second.volume) == (1, 2)
    volumes.release([first], kept=True)()
    assert disk.list_dir("volumes") == ["00000002.vol"]
    volumes.release([second], kept=True)()
    assert disk.list_dir("volumes") == ["00000002.vol"], "the one that takes new extents stays"


def test_start_punches_what_the_index_does_not_know() -> None:
    disk = SimDisk()
    volumes = started(disk)
    extents = [stored(volumes, bytes([i + 1]) * 2 * BLOCK) for i in range(6)]
    whole = stored(volumes, b"w" * VOLUME)
    kept = [extents[1], extents[4]]
    again = started(disk, kept)
    file = again.file(1)
    for i, extent in enumerate(extents):
        expected = bytes([i + 1]) * 2 * BLOCK if extent in kept else bytes(2 * BLOCK)
        assert file.pread(2 * BLOCK, extent.offset) == expected
    assert disk.list_dir("volumes") == ["00000001.vol"], "a volume without kept extents goes"
    assert whole.volume == 2
    assert disk.used == again.kept_bytes == 4 * BLOCK


def test_new_extents_after_a_restart_lie_behind_everything_ever_written() -> None:
    disk = SimDisk()
    volumes = started(disk)
    kept = stored(volumes, b"a" * BLOCK)
    torn = volumes.reserve(3 * BLOCK)
    volumes.file(torn.volume).pwrite(b"t" * 3 * BLOCK, torn.offset)
    again = started(disk, [kept])
    assert again.reserve(BLOCK).offset == torn.offset + 3 * BLOCK


def test_a_full_sync_poisons_the_volume_and_every_extent_reserved_in_it() -> None:
    disk = SimDisk()
    volumes = started(disk)
    kept = stored(volumes, b"k" * BLOCK)
    reserved = volumes.reserve(BLOCK)
    disk.fail_sync = OSError(errno.ENOSPC, "full")
    with pytest.raises(OSError):
        volumes.syncer(reserved.volume)()
    disk.fail_sync = None
    with pytest.raises(OSError, match="earlier sync"):
        volumes.syncer(reserved.volume)()
    assert volumes.reserve(BLOCK).volume != kept.volume
    volumes.release([reserved], kept=False)()
    assert volumes.file(kept.volume).pread(BLOCK, kept.offset) == b"k" * BLOCK


def test_what_is_written_later_is_durable_when_the_next_sync_is() -> None:
    for seed in range(20):
        disk = SimDisk()
        volumes = started(disk)
        extents = [volumes.reserve(length) for length in (BLOCK, 100, 2 * BLOCK + 1)]
        for number, extent in enumerate(extents):
            volumes.write_later(extent, bytes([number + 1]) * extent.length)
        volumes.syncer(extents[0].volume)()
        for extent in extents:
            volumes.keep(extent)
        disk.crash(Random(seed))
        again = started(disk, extents)
        for number, extent in enumerate(extents):
            read = again.file(extent.volume).pread(extent.length, extent.offset)
            assert read == bytes([number + 1]) * extent.length


def test_a_late_write_that_fails_keeps_every_extent_reserved_there_from_being_kept() -> None:
    disk = SimDisk()
    volumes = started(disk)
    kept = stored(volumes, b"k" * BLOCK)
    first, second = volumes.reserve(BLOCK), volumes.reserve(BLOCK)
    volumes.write_later(first, b"1" * BLOCK)
    volumes.write_later(second, b"2" * BLOCK)
    disk.capacity = disk.used + BLOCK  # room for one of them
    with pytest.raises(OSError, match="No space"):
        volumes.syncer(first.volume)()
    disk.capacity = 1 << 40
    with pytest.raises(OSError, match="earlier sync"):  # nobody may believe that the second one was written
        volumes.syncer(second.volume)()
    volumes.release([first, second], kept=False)()
    assert volumes.reserve(BLOCK).volume != kept.volume
    assert volumes.file(kept.volume).pread(BLOCK, kept.offset) == b"k" * BLOCK


def test_what_was_given_up_is_not_written_later() -> None:
    disk = SimDisk()
    volumes = started(disk)
    given_up, other = volumes.reserve(BLOCK), volumes.reserve(BLOCK)
    volumes.write_later(given_up, b"g" * BLOCK)
    volumes.write_later(other, b"o" * BLOCK)
    volumes.release([given_up], kept=False)()
    volumes.syncer(other.volume)()
    assert disk.used == BLOCK
    assert volumes.file(other.volume).pread(BLOCK, other.offset) == b"o" * BLOCK


def test_few_files_stay_open_however_many_volumes(tmp_path: Path) -> None:
    volumes = started(LocalDisk(tmp_path), files_max=4)
    extents = [stored(volumes, bytes([i]) * VOLUME) for i in range(12)]
    before = len(os.listdir("/proc/self/fd"))
    for i, extent in enumerate(extents):
        assert volumes.file(extent.volume).pread(1, extent.offset) == bytes([i])
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    held = volumes.file(extents[0].volume)
    for extent in extents:
        volumes.file(extent.volume)
    assert held.pread(1, 0) == bytes([0]), "a file in use outlives its place among the open ones"


def test_a_new_volume_and_its_first_extent_survive_a_crash_after_sync() -> None:
    for seed in range(30):
        disk = SimDisk()
        volumes = started(disk)
        extent = stored(volumes, b"x" * BLOCK)
        disk.crash(Random(seed))
        again = started(disk, [extent])
        assert again.file(extent.volume).pread(BLOCK, extent.offset) == b"x" * BLOCK


def test_a_lost_volume_does_not_stop_the_node() -> None:
    disk = SimDisk()
    volumes = started(disk, [Extent(7, 0, 100)])
    with pytest.raises(FileNotFoundError):
        volumes.file(7)
    volumes.release([Extent(7, 0, 100)], kept=True)()
    assert volumes.kept_bytes == 0

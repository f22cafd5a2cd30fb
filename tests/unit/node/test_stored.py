"""Checking what is stored reads the medium, and leaves in the page cache what was there before, and nothing else."""

from __future__ import annotations

import pytest

from objstore.node.stored import AS_IT_IS, How, find_damage
from objstore.node.volumes import Extent
from tests.sim.disk import SimDisk, SimFile


class _Cached(SimFile):
    is_cached = True

    def pread_cached(self, length: int, offset: int) -> bytes | None:
        return self.pread(length, offset) if self.is_cached else None


@pytest.mark.parametrize(("was_cached", "dropped"), [(True, 1), (False, 2)])
def test_what_was_in_the_cache_stays_there(was_cached: bool, dropped: int) -> None:
    disk = SimDisk()
    file = _Cached(disk, disk.open("f", create=True)._inode)
    file.is_cached = was_cached
    file.pwrite(b"x" * 8192, 0)
    extent = Extent(1, 0, 8000)
    assert find_damage(file, extent, 100, bytes(21), "c", How(fresh=True))  # it is no envelope
    assert disk.uncached == dropped * 8192
    assert find_damage(file, extent, 100, bytes(21), "c", AS_IT_IS)
    assert disk.uncached == dropped * 8192

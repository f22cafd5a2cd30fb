"""Volumes: big append-only files that hold the envelopes of fragments in extents.

Keeps the space of the data folder, not its meaning: which fragment an extent belongs to is in the index
(`objstore.node.index`), and the index decides what lives. An extent goes reserved -> kept -> released, or
reserved -> released. Nothing is ever written twice at one place, so a torn or late write can only spoil an
extent that nobody was told about.

Threads: every method belongs to the event loop, except the jobs that `syncer` and `release` return, which block
and may run anywhere.

Invariants
- Extents start on 4096-byte borders; their padding belongs to them. So a freed extent frees whole blocks.
- A volume that is closed for appends and empty is unlinked. Its number is not used again before a restart.
- What `write_later` was given is written by the next job of `syncer`, before it syncs; when that fails, it is as if the
  sync had failed. So an extent is in the index only with its bytes.
- After ENOSPC from a sync nobody knows which unsynced pages were dropped. That volume takes no more extents and
  no extent still reserved in it can become kept (`syncer` fails for good); kept ones were synced before.
- A volume that somebody removed or cut short (`close_lost`) is closed in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from objstore.model.errors import InvalidRequest
from objstore.model.limits import GIB
from objstore.ports import Buffer, Disk, File

logger = logging.getLogger(__name__)

FOLDER = "volumes"
BLOCK = 4096
VOLUME_BYTES = GIB
FILES_MAX = 512  # open at once; the rest are opened when they are read


class Extent(NamedTuple):
    volume: int
    offset: int  # multiple of BLOCK
    length: int  # bytes in use; it occupies `padded(length)`


def padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def volume_path(number: int) -> str:
    return f"{FOLDER}/{number:08d}.vol"


def volume_numbers(disk: Disk) -> list[int]:
    """Ascending. Files of other names are not ours and stay untouched."""
    stems = [name.removesuffix(".vol") for name in disk.list_dir(FOLDER) if name.endswith(".vol")]
    return [int(stem) for stem in stems if len(stem) == 8 and stem.isdigit()]


def volume_sizes(disk: Disk) -> dict[int, int]:
    """Blocking. Bytes of every volume file that is there. An OSError says nothing about any of them."""
    sizes: dict[int, int] = {}
    with contextlib.suppress(FileNotFoundError):  # the folder itself
        for number in volume_numbers(disk):
            with contextlib.suppress(FileNotFoundError):  # unlinked since it was listed
                file = disk.open(volume_path(number))
                try:
                    sizes[number] = file.size()
                finally:
                    file.close()
    return sizes


def is_beyond(extent: Extent, size: int | None) -> bool:
    """Is any of the extent missing from a volume file of that size? None: the file is gone."""
    return size is None or extent.offset + extent.length > size


@dataclass(slots=True)
class _Volume:
    end: int = 0  # where the next extent begins
    kept_end: int = 0  # its file is at least that long: extents that were kept end there or before
    kept: int = 0  # bytes, padded
    reserved: int = 0  # bytes, padded
    named: bool = False  # its name is durable
    poisoned: bool = False  # see the invariants
    gone: bool = False  # its name is; poisoned too
    waiting: list[tuple[Extent, Buffer]] = field(default_factory=list)  # to be written before the next sync


class Volumes:
    def __init__(self, disk: Disk, *, volume_bytes: int = VOLUME_BYTES, files_max: int = FILES_MAX) -> None:
        assert volume_bytes % BLOCK == 0
        self._disk = disk
        self._volume_bytes = volume_bytes
        self._files_max = files_max
        self._volumes: dict[int, _Volume] = {}
        self._files: OrderedDict[int, File] = OrderedDict()  # least recently used first
        self._active: int | None = None  # the one that takes new extents
        self._last = 0  # highest number in use
        self.kept_bytes = 0
        self.reserved_bytes = 0

    def recover(self, kept: Iterable[Extent]) -> None:
        """Blocking, once, at start. `kept`: every extent of the index, ascending by volume and offset. Those that the
        files lost (`sizes`) should be out of the index by now.

        Everything else is what a crash left behind: it is punched out, and empty volumes are unlinked.
        """
        self._disk.make_dir(FOLDER)
        numbers = volume_numbers(self._disk)
        gaps = _Gaps(self._disk, set(numbers))
        for extent in kept:
            gaps.keep(extent)
            volume = self._volumes.setdefault(extent.volume, _Volume(named=True))
            volume.kept += padded(extent.length)
            volume.kept_end = extent.offset + extent.length
            self.kept_bytes += padded(extent.length)
        ends = gaps.finish()
        removed = False
        for number in numbers:
            self._last = max(self._last, number)
            if number in self._volumes:
                self._volumes[number].end = ends[number]
            else:
                self._disk.unlink(volume_path(number))
                removed = True
        if removed:
            self._disk.sync_dir(FOLDER)
        if self._last in self._volumes:
            self._active = self._last

    def sizes(self) -> dict[int, int]:
        """Blocking; any thread. See `volume_sizes`."""
        return volume_sizes(self._disk)

    def expected(self) -> dict[int, int]:
        """How long the file of each volume must be by now, at least."""
        return {number: volume.kept_end for number, volume in self._volumes.items()}

    def close_lost(self, expected: Mapping[int, int], sizes: Mapping[int, int]) -> dict[int, int | None]:
        """Close the volumes that vanished or were cut. `expected` was asked before `sizes`.

        Returns what is left of each whose extents must be looked through: its size, None when it is gone. It is
        returned once, and again only if an extent was kept in it meanwhile.
        """
        lost: dict[int, int | None] = {}
        for number, least in expected.items():
            volume = self._volumes.get(number)
            size = sizes.get(number)
            if volume is None or (size is not None and size >= least):
                continue
            if size is None and volume.gone and not least:
                continue
            if size is None:
                logger.error("Volume %s is gone", volume_path(number))
            else:
                logger.error("Volume %s was cut to %d bytes; it had at least %d", volume_path(number), size, least)
            volume.poisoned = True
            volume.gone = size is None
            volume.kept_end = size or 0
            lost[number] = size
            if volume.gone and number == self._active:
                self._active = None
            if volume.gone and volume.kept == volume.reserved == 0:
                self._forget(number)
        return lost

    def reserve(self, length: int) -> Extent:
        """Room for `length` bytes; counted at once, so that space promised is not promised again."""
        size = padded(length)
        if not 0 < size <= self._volume_bytes:
            raise InvalidRequest(f"an envelope of {length} bytes does not fit a volume of {self._volume_bytes} bytes")
        number = self._active
        volume = self._volumes.get(number) if number is not None else None
        if number is None or volume is None or volume.poisoned or volume.end + size > self._volume_bytes:
            number, volume = self._begin()
        extent = Extent(number, volume.end, length)
        volume.end += size
        volume.reserved += size
        self.reserved_bytes += size
        return extent

    def keep(self, extent: Extent) -> None:
        """The extent is durable and in the index."""
        size = padded(extent.length)
        volume = self._volumes[extent.volume]
        volume.named = True
        volume.reserved -= size
        volume.kept += size
        volume.kept_end = max(volume.kept_end, extent.offset + extent.length)
        self.reserved_bytes -= size
        self.kept_bytes += size

    def release(self, extents: Iterable[Extent], *, kept: bool) -> Callable[[], None]:
        """Count the extents as free (`kept`: they had been kept) and return the job that gives their space back.

        A released extent may still be read by someone who looked it up before: they get zeros, and notice.
        """
        punches: list[tuple[File, Extent]] = []
        dead: list[int] = []
        for extent in extents:
            size = padded(extent.length)
            volume = self._volumes[extent.volume]
            if kept:
                volume.kept -= size
                self.kept_bytes -= size
            else:
                volume.reserved -= size
                self.reserved_bytes -= size
                volume.waiting = [(other, data) for other, data in volume.waiting if other != extent]
            assert volume.kept >= 0 and volume.reserved >= 0
            if volume.kept == volume.reserved == 0 and extent.volume != self._active:
                dead.append(extent.volume)
                self._forget(extent.volume)
            elif not volume.gone:
                try:
                    punches.append((self.file(extent.volume), extent))
                except OSError as error:  # the volume is gone, and the space with it
                    logger.warning("Freed space in %s: %s", volume_path(extent.volume), error)

        def job() -> None:
            try:
                for number in dead:
                    self._unlink(number)
                for file, extent in punches:
                    file.punch(extent.offset, padded(extent.length))
            except OSError as error:  # the space comes back at the next start
                logger.warning("Freed space could not be given back to the file system now: %s", error)

        return job

    def write_later(self, extent: Extent, data: Buffer) -> None:
        """Whoever makes the extent durable writes it, in the same thread. Only for a reserved extent whose commit is
        queued: nobody looks at it before."""
        self._volumes[extent.volume].waiting.append((extent, data))

    def syncer(self, number: int) -> Callable[[], None]:
        """The job that makes every write to this volume durable, its name included. OSError: see poisoning."""
        file = self.file(number)
        volume = self._volumes[number]
        waiting, volume.waiting = volume.waiting, []

        def job() -> None:
            if volume.poisoned:
                raise OSError(errno.ENOSPC, "an earlier sync of this volume ran out of space, or its file was cut")
            try:
                for extent, data in waiting:
                    file.pwrite(data, extent.offset)
                file.sync()
                if not volume.named:
                    self._disk.sync_dir(FOLDER)
            except OSError:
                volume.poisoned = True
                raise

        return job

    def file(self, number: int) -> File:
        """OSError when it is gone. Dropping the reference closes it, once nobody uses it."""
        file = self._files.get(number)
        if file is not None:
            self._files.move_to_end(number)
            return file
        file = self._files[number] = self._disk.open(volume_path(number))
        self._drop_idle_files()
        return file

    def _begin(self) -> tuple[int, _Volume]:
        previous = self._active
        number = self._last + 1
        self._files[number] = self._disk.open(volume_path(number), create=True)
        volume = self._volumes[number] = _Volume()
        self._active = self._last = number
        if previous is not None and (old := self._volumes.get(previous)) and old.kept == old.reserved == 0:
            self._forget(previous)
            self._unlink(previous)
        self._drop_idle_files()
        return number, volume

    def _forget(self, number: int) -> None:
        del self._volumes[number]
        self._files.pop(number, None)

    def _unlink(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody else removed it
            self._disk.unlink(volume_path(number))

    def _drop_idle_files(self) -> None:
        """A volume with reserved extents stays open, or the error of a failed write-back would reach nobody."""
        if len(self._files) <= self._files_max:
            return
        for number in list(self._files)[:-1]:
            volume = self._volumes.get(number)
            if number != self._active and (volume is None or not volume.reserved):
                del self._files[number]
                if len(self._files) <= self._files_max:
                    return


class _Gaps:
    """Punches everything between the kept extents, one pass in order."""

    def __init__(self, disk: Disk, present: set[int]) -> None:
        self._disk = disk
        self._present = present
        self._number: int | None = None
        self._file: File | None = None
        self._end = 0
        self._ends: dict[int, int] = {}

    def keep(self, extent: Extent) -> None:
        if extent.volume != self._number:
            self._close()
            self._number, self._end = extent.volume, 0
            if extent.volume in self._present:
                self._file = self._disk.open(volume_path(extent.volume))
            else:
                logger.error("Volume %s is gone; its fragments count as corrupt", volume_path(extent.volume))
        if self._file is not None and extent.offset > self._end:
            self._file.punch(self._end, extent.offset - self._end)
        self._end = extent.offset + padded(extent.length)

    def finish(self) -> dict[int, int]:
        """For each volume seen: the first offset that was never written."""
        self._close()
        return self._ends

    def _close(self) -> None:
        if self._number is None:
            return
        end = self._end
        if self._file is not None:
            size = padded(self._file.size())
            if size > end:
                self._file.punch(end, size - end)
            end = max(end, size)
            self._file.close()
            self._file = None
        self._ends[self._number] = end

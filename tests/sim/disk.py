"""SimDisk: a folder tree in memory that can lose power.

Plain and correct where a test does not ask for trouble. A crash keeps what was synced, and does with the rest what
the least of file systems may do: every unsynced write or hole is kept, lost or torn by itself, sector by sector; the
size of a file that grew is right, too small, or right with zeros where data should be; of the names changed in a
folder since its last sync the first few survive (a journal is cut somewhere) or any of them (there is no journal).
Only a rename is whole or not at all. Faults are explicit fields.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from objstore.ports import Buffer

BLOCK = 4096
SECTOR = 512  # the unit that a power loss leaves whole


@dataclass(eq=False)
class _Inode:
    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | int]] = field(default_factory=list)  # (offset, data), or (offset, hole length)
    blocks: set[int] = field(default_factory=set)  # allocated; only counted, never iterated


class SimFile:
    def __init__(self, disk: SimDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._boot = disk.boots

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self._checked().live[offset : offset + length])

    def pread_cached(self, length: int, offset: int) -> bytes | None:
        """Some reads find everything in memory, others not; which ones depends on nothing but the place."""
        data = self.pread(length, offset)
        return data if len(data) == length and (offset // BLOCK) % 2 else None

    def pwrite(self, data: Buffer, offset: int) -> None:
        inode = self._changed()
        raw = bytes(data)
        touched = range(offset // BLOCK, -(-(offset + len(raw)) // BLOCK))
        fresh = [block for block in touched if block not in inode.blocks]
        self._disk.take(len(fresh) * BLOCK)
        inode.blocks.update(fresh)
        inode.unsynced.append((offset, raw))
        _apply(inode.live, offset, raw)

    def sync(self) -> None:
        inode = self._changed()
        if self._disk.fail_sync is not None:
            raise self._disk.fail_sync
        for offset, change in inode.unsynced:
            _apply(inode.durable, offset, change)
        inode.unsynced.clear()

    def punch(self, offset: int, length: int) -> None:
        inode = self._changed()
        inode.unsynced.append((offset, length))
        _apply(inode.live, offset, length)
        whole = range(-(-offset // BLOCK), (offset + length) // BLOCK)
        freed = [block for block in whole if block in inode.blocks]
        inode.blocks.difference_update(freed)
        self._disk.give_back(len(freed) * BLOCK)

    def uncache(self, offset: int, length: int) -> None:
        self._disk.uncached += length

    def size(self) -> int:
        return len(self._checked().live)

    def close(self) -> None:
        """Like a descriptor: what was written stays."""

    def _changed(self) -> _Inode:
        inode = self._checked()
        self._disk.before_change()
        return inode

    def _checked(self) -> _Inode:
        if self._boot != self._disk.boots:
            raise OSError(errno.EBADF, "this file was opened before the crash")
        return self._inode


class SimDisk:
    def __init__(self, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self.used = 0
        self.boots = 0
        self.uncached = 0  # bytes that were to be read from the medium next
        self.fail_sync: OSError | None = None  # raised by every File.sync while set
        self.before_change: Callable[[], None] = _nothing  # called before anything that a crash could undo; may raise
        self._files: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._folders: set[str] = {""}  # made durable at once; membership only
        self._renames: dict[str, list[dict[str, _Inode | None]]] = {}  # folder -> changes of names since its sync

    def open(self, path: str, *, create: bool = False) -> SimFile:
        inode = self._files.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            inode = _Inode()
            self._change(_folder(path), {path: inode})
        return SimFile(self, inode)

    def make_dir(self, path: str) -> None:
        self.before_change()
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder in self._files:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
            self._folders.add(folder)

    def list_dir(self, path: str) -> list[str]:
        self._need_folder(path)
        names = [name.rpartition("/") for name in (*self._files, *sorted(self._folders)) if name]
        return sorted(name for folder, _, name in names if folder == path)

    def exists(self, path: str) -> bool:
        return path in self._files or path in self._folders

    def unlink(self, path: str) -> None:
        inode = self._file(path)
        self._change(_folder(path), {path: None})
        self.give_back(len(inode.blocks) * BLOCK)
        inode.blocks.clear()

    def rename(self, old: str, new: str) -> None:
        inode = self._file(old)
        assert _folder(old) == _folder(new), "the product renames within a folder only"
        replaced = self._files.get(new)
        if replaced is not None:
            self.give_back(len(replaced.blocks) * BLOCK)
        self._change(_folder(new), {old: None, new: inode})

    def sync_dir(self, path: str) -> None:
        self._need_folder(path)
        self.before_change()
        for change in self._renames.pop(path, []):
            _rename(self._durable, change)

    def read_file(self, path: str) -> bytes:
        return bytes(self._file(path).live)

    def write_file(self, path: str, data: bytes) -> None:
        temporary = f"{path}.tmp"
        if temporary in self._files:
            self.unlink(temporary)
        file = self.open(temporary, create=True)
        file.pwrite(data, 0)
        file.sync()
        self.rename(temporary, path)
        self.sync_dir(_folder(path))

    def space(self) -> tuple[int, int]:
        return max(0, self.capacity - self.used), self.capacity

    # --- trouble -----------------------------------------------------------------------------------------

    def crash(self, random: Random) -> None:
        """Power loss. Open files are gone (EBADF); injected faults are lifted."""
        self.boots += 1
        self.fail_sync = None
        self.before_change = _nothing
        for folder in sorted(self._renames):
            renames = self._renames[folder]
            if random.random() < 0.5:
                renames = renames[: random.randint(0, len(renames))]
            else:
                renames = [rename for rename in renames if random.random() < 0.5]
            for rename in renames:
                _rename(self._durable, rename)
        self._renames.clear()
        self._files = dict(self._durable)
        self.used = 0
        for path in sorted(self._files):
            inode = self._files[path]
            size = len(inode.durable)
            for offset, change in inode.unsynced:
                _apply_torn(inode.durable, offset, change, random)
            if inode.unsynced:
                _resize(inode.durable, size, len(inode.live), random)
            inode.unsynced.clear()
            inode.live = bytearray(inode.durable)
            inode.blocks = {
                start // BLOCK for start in range(0, len(inode.live), BLOCK) if any(inode.live[start : start + BLOCK])
            }
            self.used += len(inode.blocks) * BLOCK

    def flip(self, path: str, offset: int, mask: int = 0x01) -> None:
        """Bit rot: changes one byte, on the medium too."""
        inode = self._file(path)
        inode.live[offset] ^= mask
        if offset < len(inode.durable):
            inode.durable[offset] ^= mask

    def truncate(self, path: str, size: int) -> None:
        """Somebody or something cuts a file, on the medium too."""
        inode = self._file(path)
        del inode.live[size:], inode.durable[size:]

    def take(self, count: int) -> None:
        if self.used + count > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.used += count

    def give_back(self, count: int) -> None:
        self.used -= count

    # --- names -------------------------------------------------------------------------------------------

    def _file(self, path: str) -> _Inode:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def _need_folder(self, path: str) -> None:
        if path not in self._folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _change(self, folder: str, change: dict[str, _Inode | None]) -> None:
        self._need_folder(folder)
        self.before_change()
        _rename(self._files, change)
        self._renames.setdefault(folder, []).append(change)


def _folder(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"the path {path!r} leaves the data folder")
    return path.rpartition("/")[0]


def _rename(names: dict[str, _Inode], change: dict[str, _Inode | None]) -> None:
    for path, inode in change.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _apply(content: bytearray, offset: int, change: bytes | int) -> None:
    if isinstance(change, int):
        end = min(len(content), offset + change)
        if end > offset:
            content[offset:end] = bytes(end - offset)
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(change)] = change


def _apply_torn(content: bytearray, offset: int, change: bytes | int, random: Random) -> None:
    fate = random.choice(("kept", "lost", "torn"))
    if fate == "kept":
        _apply(content, offset, change)
    elif fate == "torn" and isinstance(change, int):
        for start in range(0, change, BLOCK):
            if random.random() < 0.5:
                _apply(content, offset + start, min(BLOCK, change - start))
    elif fate == "torn" and not isinstance(change, int):
        for start in range(0, len(change), SECTOR):
            if random.random() < 0.5:
                _apply(content, offset + start, change[start : start + SECTOR])


def _resize(content: bytearray, synced: int, written: int, random: Random) -> None:
    """The size is written at another time than the data: never below what was synced, nor above what was written."""
    fate = random.choice(("as the data", "shorter", "longer"))
    if fate == "shorter" and len(content) > synced:
        del content[random.randint(synced, len(content)) :]
    elif fate == "longer" and len(content) < written:
        content.extend(bytes(random.randint(0, written - len(content))))


def _nothing() -> None:
    pass

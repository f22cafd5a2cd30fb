"""The real disk: one folder of a local file system.

Durability rests on three calls and nothing else: fdatasync for contents, fsync of the folder for names, and
rename for atomic replacement. Not a cache and not a retry layer: every OSError goes to the caller, because a
failed fsync says nothing about which pages were lost (design, section 6).

A file closes with its last reference, so one that a thread still reads or writes never loses its descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from pathlib import PurePosixPath

from objstore.model.buffers import fresh_buffer
from objstore.model.errors import Fatal
from objstore.ports import Buffer

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # the file system cannot; harmless
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)  # Linux: read what is in the page cache
_libc = ctypes.CDLL(None, use_errno=True)


def make_folder(path: str, mode: int = 0o777) -> None:
    """Also its parents; the names of all that were missing are durable on return, and so is that of the folder itself
    when it existed: whoever made it may not have come to that."""
    unsure = [path]
    while not os.path.isdir(parent := os.path.dirname(unsure[-1])):
        unsure.append(parent)
    os.makedirs(path, mode, exist_ok=True)
    for folder in reversed(unsure):
        try:
            sync_folder(os.path.dirname(folder))
        except PermissionError:
            if folder != path:
                raise
            # a folder prepared by somebody else, where we may not read beside it: the name is theirs to keep


def sync_folder(path: str) -> None:
    """The names in it are durable on return."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class LocalFile:
    """File over one descriptor; positions are explicit, so threads may share it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) == length or not data:
            return data
        pieces = [data]
        have = len(data)
        while have < length:
            data = os.pread(self._fd, length - have, offset + have)
            if not data:
                break
            pieces.append(data)
            have += len(data)
        return b"".join(pieces)

    def pread_cached(self, length: int, offset: int) -> bytearray | None:
        if not _NO_WAIT:
            return None
        buffer = fresh_buffer(length)
        try:
            done = os.preadv(self._fd, [buffer], offset, _NO_WAIT)
        except OSError:  # nothing of it is in the page cache, or this file system cannot say; `pread` tells more
            return None
        return buffer if done == length else None

    def pwrite(self, data: Buffer, offset: int) -> None:
        done = os.pwrite(self._fd, data, offset)
        if done == len(data):
            return
        rest = memoryview(data)[done:]
        while rest:
            offset += done
            done = os.pwrite(self._fd, rest, offset)
            rest = rest[done:]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def punch(self, offset: int, length: int) -> None:
        if length <= 0 or not hasattr(_libc, "fallocate"):
            return
        mode = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE)
        while _libc.fallocate(ctypes.c_int(self._fd), mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
            code = ctypes.get_errno()
            if code in _NO_HOLES:
                return
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))

    def uncache(self, offset: int, length: int) -> None:
        if length > 0 and hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # advice only
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class LocalDisk:
    """Disk below `root`, which is created when it is missing. Paths that would leave it are refused."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._lock = -1
        make_folder(self.root)

    def lock(self) -> None:
        """Claim the folder for this process until `close`; Fatal when another one has it."""
        if self._lock >= 0:
            return
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise Fatal(
                f"The data folder {self.root} is in use by another process; stop it, or give this one another folder."
            ) from error
        self._lock = fd

    def close(self) -> None:
        if self._lock >= 0:
            fd, self._lock = self._lock, -1
            os.close(fd)

    def open(self, path: str, *, create: bool = False) -> LocalFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return LocalFile(os.open(self._path(path), flags, 0o644))

    def make_dir(self, path: str) -> None:
        parts = PurePosixPath(path).parts
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._path(folder))
            self.sync_dir("/".join(parts[: depth - 1]))  # also when it existed: a crash may have cut an earlier call
        if not os.path.isdir(self._path(path)):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def list_dir(self, path: str) -> list[str]:
        return sorted(os.listdir(self._path(path)))

    def exists(self, path: str) -> bool:
        return os.path.exists(self._path(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._path(path))

    def rename(self, old: str, new: str) -> None:
        os.replace(self._path(old), self._path(new))

    def sync_dir(self, path: str) -> None:
        sync_folder(self._path(path))

    def read_file(self, path: str) -> bytes:
        with open(self._path(path), "rb") as file:
            return file.read()

    def write_file(self, path: str, data: bytes) -> None:
        temporary = f"{path}.tmp"
        file = LocalFile(os.open(self._path(temporary), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
        try:
            file.pwrite(data, 0)
            file.sync()
        finally:
            file.close()
        self.rename(temporary, path)
        self.sync_dir(path.rpartition("/")[0])

    def space(self) -> tuple[int, int]:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def _path(self, path: str) -> str:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts:
            raise ValueError(f"the path {path!r} leaves the data folder")
        return os.path.join(self.root, *parts)

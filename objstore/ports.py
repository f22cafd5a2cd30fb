"""The doors to the outside: clock, randomness, disk, key-value store, network. Nothing else may open one.

Real implementations are in `objstore/adapters` and `objstore/rpc`; simulated ones in `tests/sim`. One contract
suite (`tests/contract`) runs on both, so that the simulation cannot drift from the truth. Waiting is
`asyncio.sleep` and blocking calls go through `asyncio.get_running_loop().run_in_executor(None, ...)`: the
simulated event loop has virtual time and runs executor jobs inline.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from objstore.model.errors import ObjstoreError
from objstore.wire.messages import Reply, Request

if TYPE_CHECKING:  # whoever only asks, without a loop, starts faster without it
    import asyncio

Buffer: TypeAlias = bytes | bytearray | memoryview


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; for deadlines and durations."""

    def wall_ms(self) -> int:
        """Unix milliseconds; for timestamps shown to people and for ballots, never for safety."""


class Random(Protocol):
    def bytes(self, count: int) -> bytes:
        """Unpredictable bytes (ids, nonces)."""

    def uniform(self, low: float, high: float) -> float:
        """For jitter."""


class File(Protocol):
    """An open file. Blocking; call from an executor. OSError carries the reason (ENOSPC, EIO)."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""

    def pread_cached(self, length: int, offset: int) -> Buffer | None:
        """As `pread`, from memory and so without waiting; may be called on the loop. None: not all of it is there, or
        nobody can say."""

    def pwrite(self, data: Buffer, offset: int) -> None:
        """All of it, or OSError. Not durable before `sync`."""

    def sync(self) -> None:
        """fdatasync: contents and size are durable on return. An OSError here is fatal: never retry."""

    def punch(self, offset: int, length: int) -> None:
        """Give the space back; the range reads as zeros. A file system that cannot: no effect."""

    def uncache(self, offset: int, length: int) -> None:
        """Ask that the next read of the range comes from the medium. Advice, of no effect on a file system that is in
        memory: what is not written back yet, or is in use, stays in the page cache, and disks have caches too."""

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A folder tree; paths are relative to its root, with '/'."""

    def open(self, path: str, *, create: bool = False) -> File:
        """For reading and writing. A created file's name is durable only after `sync_dir`."""

    def make_dir(self, path: str) -> None:
        """Also its parents; durable on return; no error if it exists."""

    def list_dir(self, path: str) -> list[str]:
        """Sorted names."""

    def exists(self, path: str) -> bool: ...

    def unlink(self, path: str) -> None: ...

    def rename(self, old: str, new: str) -> None:
        """Atomic; durable only after `sync_dir`."""

    def sync_dir(self, path: str) -> None:
        """Names created, renamed and removed in this folder are durable on return."""

    def read_file(self, path: str) -> bytes: ...

    def write_file(self, path: str, data: bytes) -> None:
        """Replace whole: temporary file, sync, rename, sync of the folder."""

    def space(self) -> tuple[int, int]:
        """(free bytes for us, total bytes) of the file system."""


Write: TypeAlias = tuple[str, bytes, bytes | None]  # table, key (<= 511 bytes), value or None = delete


Rows: TypeAlias = list[tuple[bytes, bytes]]


class DamagedKV(OSError):
    """What is in a key-value store cannot be trusted: not what was written, or not all of it."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EIO, what)


class Scans(Protocol):
    """Ordered tables of byte strings, to be read row after row."""

    def scan(self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None) -> Rows:
        """Pairs with start <= key < end, ascending, at most `limit`. end None: to the table's end."""


class KV(Scans, Protocol):
    """Ordered tables of byte strings. Reads see every commit that has returned. DamagedKV where it is certain."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def window(
        self, table: str, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> tuple[Rows, Rows, Rows]:
        """`scan`, and the rows that it ended at: the one before the first, and the one at which it went no further
        (none at the limit). Who asks verifies that a search was not led astray."""

    def commit(self, writes: Sequence[Write]) -> None:
        """All or none, durable on return. Blocking; one caller at a time."""

    def usage(self) -> tuple[int, int]:
        """(bytes in use, bytes it may grow to). Falls with deletes."""

    def close(self) -> None: ...


Told: TypeAlias = Callable[[Reply | ObjstoreError, bytes | memoryview], None]
"""What becomes of a request: the reply with its payload, or the error that `Transport.call` would raise."""


class Transport(Protocol):
    """One request, one reply, to an address. At most once per call: it never retries."""

    async def call(
        self, address: str, request: Request, payload: Buffer = b"", *, timeout_s: float
    ) -> tuple[Reply, bytes | memoryview]:
        """Raises Unreachable or DeadlineExceeded (outcome unknown), or the error the other side answered
        (a class of `model.errors.CODES`)."""

    def send(self, address: str, request: Request, payload: Buffer, *, timeout_s: float, told: Told) -> None:
        """As `call`, without a task that waits: `told` gets the answer or the error; once, and not before this returns.
        It must not raise."""


class Later(NamedTuple):
    """An answer that counts once `done` is; if that fails, its error is the answer."""

    done: asyncio.Future[None]
    answer: tuple[Reply, Buffer]


class Service(Protocol):
    """The other end of a Transport."""

    def begin(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, Buffer] | Later | None:
        """What needs no task to be answered; None: nothing was done, ask `handle`. Raises as that does."""

    async def handle(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, Buffer]:
        """Raises an ObjstoreError to answer with it. Must not keep `payload` beyond its return."""

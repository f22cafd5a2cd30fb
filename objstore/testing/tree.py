"""A folder tree of test files whose every byte follows from its name, so that it can be compared at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20

# (folder, files, size in bytes of the i-th): from nothing to more than one segment of 64 MiB, with the edges of
# inline objects (32 KiB) and cells (256 KiB) among them.
_PLAN = (
    ("empty", 3, lambda i: 0),
    ("notes", 120, lambda i: 1 + (i * 97) % 4096),
    ("mail/2026", 60, lambda i: 32 * KIB - 30 + i),
    ("photos/spring", 60, lambda i: 100 * KIB + i * 4001),
    ("photos/summer", 30, lambda i: 256 * KIB * 4 - 15 + i),
    ("music", 12, lambda i: 3 * MIB + i * 65_537),
    ("video", 3, lambda i: (9 + 5 * i) * MIB + 13),
    ("disk images", 1, lambda i: 66 * MIB + 7),
)


@dataclass(frozen=True, slots=True)
class TestFile:
    __test__ = False  # not a test class, whatever pytest thinks of the name

    path: str  # relative, with '/'; also its key
    size: int


def plan() -> list[TestFile]:
    return [TestFile(f"{folder}/{i:03d} ä.bin", size(i)) for folder, count, size in _PLAN for i in range(count)]


def content(file: TestFile) -> bytes:
    return hashlib.shake_128(file.path.encode()).digest(file.size)


def write(root: Path, files: Iterable[TestFile]) -> None:
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(file))


def first_difference(path: Path, chunks: Iterator[bytes]) -> int | None:
    """Offset of the first byte at which `chunks` differ from the file; None if they are the same."""
    offset = 0
    with path.open("rb") as file:
        for chunk in chunks:
            mine = file.read(len(chunk))
            if mine != chunk:
                return offset + next(
                    (i for i, (a, b) in enumerate(zip(mine, chunk, strict=False)) if a != b), len(mine)
                )
            offset += len(chunk)
        return offset if file.read(1) else None

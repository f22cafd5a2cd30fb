"""What the scrub reads back, each thing with the checks that it has.

- Rows of the index: their seals (INV-16). One that does not verify ends the node, which comes back without the index.
  LMDB maps its file, so most of what is read comes from the page cache. The walk at each start reads all but the
  inline data too.
- Records of the journal: their checksums. A damaged journal is written again from the index, as at a start.
- Fragments: each one that the index names, from the medium as far as the system lets us: that it lies there, is the
  one it should be, and every checksum of it. What is wrong goes to quarantine, the survey misses it, and repair makes
  it anew.

The other way round, bytes in a volume that no row names, is for the next start: it punches them out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from objstore.model.errors import Corrupt, NotFound
from objstore.model.scrubbing import ScrubFound, ScrubMode
from objstore.node import journal_format as form
from objstore.node.commit import SHORTAGES
from objstore.node.compaction import Compactor
from objstore.node.fragments import FragmentStore
from objstore.node.journal import Journal
from objstore.node.journal_format import HEADER_BYTES
from objstore.node.scrub import Step
from objstore.node.stored import How
from objstore.node.volumes import BLOCK, Volumes, padded
from objstore.ports import KV

logger = logging.getLogger(__name__)

ROWS = 1024  # looked at in one step
FRAGMENTS = 64  # looked up at a time


class IndexRows:
    def __init__(self, kv: KV, tables: Sequence[str], used_bytes: Callable[[], int]) -> None:
        self._kv = kv
        self._tables = tables
        self._used_bytes = used_bytes

    def size(self, mode: ScrubMode) -> int:
        return self._used_bytes() if mode == "full" else 0

    async def step(self, at: bytes, mode: ScrubMode) -> Step | None:
        if mode == "quick":
            return None
        number, key = (at[0], at[1:]) if at else (0, b"")
        if number >= len(self._tables):
            return None
        start = key + b"\x00" if key else b""
        table = self._tables[number]
        rows = await asyncio.get_running_loop().run_in_executor(None, lambda: self._kv.scan(table, start, limit=ROWS))
        if len(rows) < ROWS:
            following = bytes((number + 1,))
        else:
            following = bytes((number,)) + rows[-1][0]
        return Step(following, sum(len(key) + len(row) for key, row in rows))


class JournalRecords:
    """A file of the journal per step."""

    def __init__(self, journal: Journal, compactor: Compactor) -> None:
        self._journal = journal
        self._compactor = compactor

    def size(self, mode: ScrubMode) -> int:
        return self._journal.size_bytes if mode == "full" else 0

    async def step(self, at: bytes, mode: ScrubMode) -> Step | None:
        journal = self._journal
        number = max(journal.first, int.from_bytes(at, "big") + 1)
        if mode == "quick" or journal.incomplete or number > journal.number:
            return None
        size, damage = await asyncio.get_running_loop().run_in_executor(
            None, self._walk, number, journal.end_of(number)
        )
        following = number.to_bytes(4, "big")
        if not damage or number < journal.first:  # compaction removed it meanwhile
            return Step(following, size)
        logger.error("The record journal is damaged (file %d); it is written again from the index", number)
        await self._compactor.distrust()
        return Step(following, size, ScrubFound(records=damage))

    def _walk(self, number: int, end: int | None) -> tuple[int, int]:
        """Blocking. Bytes that were looked at, and damaged places. `end`: None = that of the file."""
        damage = form.Damage()
        try:
            file, size, salt = self._journal.open_file(number)
            if end is not None and size < end:
                return size, 1
            size = size if end is None else end
            file.uncache(0, size)
            for _ in form.walk(file.pread, size, salt, damage):
                pass
            file.uncache(HEADER_BYTES, size)
        except (OSError, Corrupt) as error:
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                raise
            logger.info("file %d of the record journal cannot be read: %s", number, error)
            return 0, 1
        return size, damage.places


class Fragments:
    """One per step."""

    def __init__(self, store: FragmentStore, volumes: Volumes) -> None:
        self._store = store
        self._volumes = volumes
        self._page: list[tuple[bytes, int]] = []  # last one first

    def size(self, mode: ScrubMode) -> int:
        return self._volumes.kept_bytes if mode == "full" else self._store.count * BLOCK

    async def step(self, at: bytes, mode: ScrubMode) -> Step | None:
        while self._page and self._page[-1][0] <= at:
            self._page.pop()
        if not self._page:
            self._page = list(reversed(self._store.lengths_after(at, FRAGMENTS)))
            if not self._page:
                return None
        fragment, length = self._page[-1]
        found = ScrubFound()
        try:
            damage = await self._store.inspect(fragment, How(body=mode == "full", fresh=True))
            if damage is not None:
                found = ScrubFound(**{damage.kind: 1})
        except NotFound:
            pass  # deleted since it was looked up
        return Step(fragment, padded(length) if mode == "full" else BLOCK, found)

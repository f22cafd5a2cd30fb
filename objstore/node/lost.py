"""The journals of former lives: what the registers of this node held when its index was lost.

A node whose key-value store is gone has forgotten its promises and starts under a new id (`objstore.node.identity`).
Its old journal says what it had accepted, which nobody may vote with any more, but which recovery reads when too many
nodes have lost their index (`RecPull`). A life is replayed once, at start, into a map of what counts; values stay on
the disk and are verified when they are read.

A record that was never answered may be among them (the last batch before a power cut). That is what an accept
whose answer was lost is, and proposers expect it.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from objstore.model import limits
from objstore.model.errors import Corrupt, Fatal, InvalidRequest
from objstore.node import journal_format as form
from objstore.node.commit import SHORTAGES, shortage
from objstore.node.journal import FOLDER, files_in, path_of
from objstore.node.journal_format import HEADER_BYTES, NO_FLOOR, Damage, Drop, Forget, Header, Value
from objstore.ports import Buffer, Disk, File
from objstore.wire.messages import Ok, RecDone, RecPull, RecPulled, Reply

logger = logging.getLogger(__name__)

_Answer = tuple[Reply, Buffer]


class Place(NamedTuple):
    """The last value of a register, and where its record lies."""

    ballot: bytes
    number: int
    offset: int
    length: int


class Life:
    """One journal, replayed."""

    def __init__(self, node_id: str, numbers: Sequence[int], partitions: int) -> None:
        self.node_id = node_id
        self.numbers = list(numbers)
        self.salts: dict[int, bytes] = {}
        self.places: dict[int, dict[bytes, Place]] = {}  # partition -> key -> what counts
        self.tags = array("Q", bytes(8 * partitions))
        self.floors: dict[int, bytes] = {}
        self.damage = Damage()
        self.bytes = 0
        self._sorted: tuple[int, list[bytes]] = (-1, [])

    def replay(self, disk: Disk, cluster_id: str) -> None:
        """Blocking. Fatal when the journal belongs to another cluster."""
        for number in self.numbers:
            file = disk.open(path_of(self.node_id, number))
            size = file.size()
            self.bytes += size
            header = self._header(file, size)
            if header is None:
                continue
            if header.cluster_id != cluster_id:
                raise Fatal(
                    f"The records in this data folder belong to cluster {header.cluster_id}, not to {cluster_id}; "
                    "give the node another folder."
                )
            self.salts[number] = header.salt
            for found in form.walk(file.pread, size, header.salt, self.damage):
                self._take(number, found)
        missing = len(set(range(self.numbers[0], self.numbers[-1] + 1)).difference(self.numbers))
        self.damage.places += missing

    def _header(self, file: File, size: int) -> Header | None:
        try:
            return form.decode_header(file.pread(HEADER_BYTES, 0))
        except Corrupt as error:
            if not form.is_blank(file.pread, size):  # else its first batch was cut off again
                logger.error("A journal of node %s: %s; the file is skipped", self.node_id, error)
                self.damage.places += 1
            return None

    def _take(self, number: int, found: form.Found) -> None:
        try:
            record = form.decode(found.record)
        except Corrupt as error:
            logger.error("A journal of node %s: %s", self.node_id, error)
            self.damage.places += 1
            return
        if isinstance(record, form.Promise | form.Synced):
            return  # of that life alone
        partition = record.partition
        if partition >= len(self.tags):
            self.damage.places += 1
            return
        if isinstance(record, (Value, Drop, form.Fence)):
            self.tags[partition] = max(self.tags[partition], record.tag)
        else:
            self.floors[partition] = max(self.floor(partition), record.floor)
        places = self.places.setdefault(partition, {})
        if isinstance(record, Value):
            places[record.key] = Place(record.ballot, number, found.offset, len(found.record))
        elif isinstance(record, Drop):
            places.clear()
            self.floors.pop(partition, None)
        elif isinstance(record, Forget):
            for key in record.keys:
                if (known := places.get(key)) is not None and known.ballot <= record.floor:
                    del places[key]

    @property
    def registers(self) -> int:
        return sum(map(len, self.places.values()))

    def floor(self, partition: int) -> bytes:
        return self.floors.get(partition, NO_FLOOR)

    def after(self, partition: int, key: bytes) -> Iterator[tuple[bytes, Place]]:
        """Registers above that one, in order of their keys."""
        places = self.places.get(partition, {})
        if self._sorted[0] != partition or len(self._sorted[1]) != len(places):
            self._sorted = partition, sorted(places)
        keys = self._sorted[1]
        start = bisect_right(keys, key) if key else 0
        for index in range(start, len(keys)):
            yield keys[index], places[keys[index]]

    def read(self, disk: Disk, place: Place) -> Value:
        """Blocking. Raises Corrupt when it does not verify any more."""
        file = disk.open(path_of(self.node_id, place.number))
        value = form.decode(form.read_record(file.pread, place.offset, place.length, self.salts[place.number]))
        assert isinstance(value, Value)
        return value

    def give_up(self, partition: int, key: bytes) -> None:
        self.damage.places += 1
        del self.places[partition][key]


class LostRecords:
    """All former lives of a node. `recover` once, at start."""

    def __init__(self, disk: Disk, cluster_id: str, node_id: str, partitions: int) -> None:
        self._disk = disk
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._partitions = partitions
        self._lives: list[Life] = []
        self._turn = asyncio.Lock()

    def recover(self) -> None:
        """Blocking."""
        for node_id, numbers in sorted(files_in(self._disk).items()):
            if node_id == self._node_id:
                continue
            life = Life(node_id, numbers, self._partitions)
            life.replay(self._disk, self._cluster_id)
            self._lives.append(life)
            logger.warning(
                "The journal of node %s, which this node was before its index was lost, holds %d registers; "
                "%d places are damaged. It is kept for recovery.",
                node_id,
                life.registers,
                life.damage.places,
            )

    @property
    def size_bytes(self) -> int:
        return sum(life.bytes for life in self._lives)

    def __bool__(self) -> bool:
        return bool(self._lives)

    async def pull(self, request: RecPull, payload: Buffer) -> _Answer:
        if request.partition >= self._partitions:
            raise InvalidRequest(f"partition {request.partition} does not exist: this cluster has {self._partitions}")
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(None, self._page, request)

    async def done(self, request: RecDone, payload: Buffer) -> _Answer:
        async with self._turn:
            await asyncio.get_running_loop().run_in_executor(None, self._remove)
        return Ok(), b""

    def _page(self, request: RecPull) -> tuple[RecPulled, bytes]:
        lives = len(self._lives)
        if request.life >= lives:
            return RecPulled([], b"", [], [], [], False, 0, NO_FLOOR, 0, lives), b""
        life = self._lives[request.life]
        partition = request.partition
        values: list[Value] = []
        size = 0
        more = False
        for key, place in life.after(partition, request.after):
            if values and (len(values) == request.limit or size + place.length > limits.SCAN_BYTES_MAX):
                more = True
                break
            try:
                values.append(life.read(self._disk, place))
            except (Corrupt, OSError) as error:
                if isinstance(error, OSError) and error.errno in SHORTAGES:
                    raise shortage(error) from error
                logger.error("A register in the journal of node %s cannot be read: %s", life.node_id, error)
                life.give_up(partition, key)
                continue
            size += place.length
        reply = RecPulled(
            [value.key for value in values],
            b"".join(value.ballot for value in values),
            [value.listing for value in values],
            [value.state for value in values],
            [len(value.data) for value in values],
            more,
            life.tags[partition],
            life.floor(partition),
            life.damage.places,
            lives,
            life.node_id,
        )
        return reply, b"".join(value.data for value in values)

    def _remove(self) -> None:
        """Blocking. A life whose files are not all gone is still there."""
        for life in list(self._lives):
            for number in life.numbers:
                if self._disk.exists(path_of(life.node_id, number)):
                    self._disk.unlink(path_of(life.node_id, number))
                self._disk.sync_dir(FOLDER)  # one by one: a drop must not go while what it killed stays
            self._lives.remove(life)
            logger.info("The journal of node %s is no longer needed and was removed", life.node_id)

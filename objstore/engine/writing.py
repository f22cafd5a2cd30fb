"""Writing a blob: body -> segments -> windows of stripes -> shards on distinct nodes, with bounded memory.

Nothing here makes anything visible: the caller commits the returned BlobRef in a register, or not at all.
A segment counts as stored when at least k+1 shards are durable; all k+m of them whenever enough nodes live.
Shards that found no node are listed in `BlobRef.absent`: the repair debt, committed with the object (INV-5).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from objstore.codec.envelope import EnvelopeHeader, encode_header, shape_of
from objstore.codec.erasure import Codec, get_codec
from objstore.codec.stripes import SegmentShape
from objstore.codec.windows import Outgoing
from objstore.engine.exact import ExactReader
from objstore.engine.peers import Peers
from objstore.engine.placing import Placer
from objstore.engine.rebuilding import Job, Rebuilder
from objstore.engine.types import Placed
from objstore.model import limits
from objstore.model.errors import InsufficientStorage, ObjstoreError, QuorumLost
from objstore.model.ids import BlobId, NodeId
from objstore.model.manifest import BlobRef, FragmentId
from objstore.ports import Buffer
from objstore.wire.messages import FragAbort, FragCommit, FragDelete, FragOpen, FragOpened, FragPut, FragWrite, Ping

ONE_SHOT_BYTES_MAX = limits.MIB  # up to here an envelope is kept and sent whole, so that a handoff needs no rebuild
INLINE_WORK_BYTES_MAX = 64 * limits.KIB  # below this a thread costs more than the hashing and coding itself
ONE_THREAD_BYTES_MAX = limits.MIB  # below this a second one costs more than coding, a tenth of hashing, takes
WINDOW_BYTES = 4 * limits.MIB  # of the body that are coded and sent at once, in whole stripes
WINDOWS_QUEUED = 1  # per shard: bounds a request's memory to a few windows
PUT_TIMEOUT_S = 3.0
OPEN_TIMEOUT_S = 2.0
OPENING_S = 3.0  # for one stream to find a node that takes it
COMMIT_TIMEOUT_S = 10.0
SECOND_CHANCE_S = 2.0  # how long a write looks for a node for a shard that found none, while members have leases
SECOND_CHANCE_PAUSE_S = 0.1
PROBE_S = 1.0  # a node that just failed shows first that it answers

# Without enough nodes the error comes in time (P2); with m that hang there is time for those that stand in.
assert max(OPENING_S, PUT_TIMEOUT_S) + SECOND_CHANCE_S <= limits.OPERATION_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class BlobLabel:
    """What every envelope of the blob says of it, so that the index can be rebuilt from fragments alone (P9)."""

    cluster_id: str
    bucket: bytes
    bucket_name: str
    key: bytes
    created_ms: int
    about: dict[str, str]


class BlobWriter:
    """Writes blobs under the newest layout. One per process; keeps no state between calls."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._discards: set[asyncio.Task[None]] = set()

    @property
    def cluster_id(self) -> str:
        return self._peers.topology.map.cluster_id

    def need_room(self) -> None:
        """InsufficientStorage when a write could not be stored."""
        self._peers.need_room()

    async def write(
        self, body: ExactReader, size: int, blob: BlobId, label: BlobLabel, *, hashed: bool = True
    ) -> tuple[BlobRef, bytes]:
        """Store `size` > 0 bytes; returns the reference to commit and the MD5 digest of the bytes, if it is wanted.

        Raises what the body raises, QuorumLost when too few nodes take shards, InsufficientStorage.
        """
        topology = self._peers.topology
        code, codec_name = topology.map.code, topology.map.codec
        ref = BlobRef(blob, size, codec_name, code.k, code.m, limits.CELL_SIZE, limits.SEGMENT_SIZE)
        codec = get_codec(codec_name, code.k, code.m)
        md5 = hashlib.md5(usedforsecurity=False)
        update = md5.update if hashed else _ignore
        absent: list[tuple[int, int]] = []
        for segment in range(ref.segments):
            writer = SegmentWriter(self._peers, ref, segment, codec, label)
            try:
                self._peers.need_room()
                await writer.start()
                for windows in writer.windows():
                    await body.fill(windows.cells)
                    await writer.add(windows, update)
                absent += [(segment, shard) for shard in await writer.finish()]
            except BaseException:
                await writer.close()
                self.discard((ref,))
                raise
        if absent:
            ref = BlobRef(ref.id, size, codec_name, code.k, code.m, ref.cell_size, ref.segment_size, tuple(absent))
        return ref, md5.digest()

    def discard(self, blobs: tuple[BlobRef, ...]) -> None:
        """Begin to delete fragments of blobs that were never offered to a register, or finally refused by it.

        Best effort, in the background; what it misses is found as an orphan later."""
        for ref in blobs:
            task = asyncio.create_task(self._discard(ref))
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)

    async def _discard(self, ref: BlobRef) -> None:
        topology = self._peers.topology
        for segment in range(ref.segments):
            partition = topology.partition_of_blob(ref.id, segment)
            shards = [FragmentId(ref.id, segment, shard).pack() for shard in range(ref.k + ref.m)]
            request = FragDelete(partition, b"".join(shards))
            calls = (self._peers.call(node, request) for node in self._peers.live())
            await asyncio.gather(*calls, return_exceptions=True)

    async def close(self) -> None:
        await asyncio.gather(*self._discards, return_exceptions=True)


def _ignore(_data: Buffer) -> None:
    return None


class SegmentWriter:
    """One segment on its way to its nodes: start, add all its windows in order, finish; close in any case."""

    def __init__(self, peers: Peers, ref: BlobRef, segment: int, codec: Codec, label: BlobLabel) -> None:
        topology = peers.topology
        self._peers = peers
        self._ref = ref
        self._segment = segment
        self._codec = codec
        self.partition = topology.partition_of_blob(ref.id, segment)
        self._headers = [
            EnvelopeHeader(
                cluster_id=label.cluster_id,
                bucket=label.bucket,
                bucket_name=label.bucket_name,
                key=label.key,
                blob=ref.id,
                blob_size=ref.size,
                segment=segment,
                shard=shard,
                epoch=topology.epoch,
                codec=ref.codec,
                k=ref.k,
                m=ref.m,
                cell_size=ref.cell_size,
                segment_length=ref.segment_length(segment),
                created_ms=label.created_ms,
                about=label.about,
            )
            for shard in range(ref.k + ref.m)
        ]
        self.shape: SegmentShape = shape_of(self._headers[0])
        owners, handoff = topology.data_owners(self.partition), topology.handoff(self.partition)
        self._placer = Placer(owners, handoff, peers.takes_data, peers.is_full)
        self._sinks: list[_Sink] = []
        self._adding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for shard, header in enumerate(self._headers):
            fragment = FragmentId(self._ref.id, self._segment, shard)
            encoded = encode_header(header)
            length = len(encoded) + self.shape.body_length(shard)
            kind = _OneShot if length <= ONE_SHOT_BYTES_MAX else _Stream
            self._sinks.append(kind(self._peers, self._placer, self.partition, fragment, encoded, length))

    def windows(self) -> Iterator[Outgoing]:
        """One after the other, to be filled with the body and added."""
        step = max(1, WINDOW_BYTES // (self.shape.k * self.shape.cell_size))
        prefixes = [sink.prefix for sink in self._sinks]
        for first in range(0, self.shape.stripes, step):
            yield Outgoing(self.shape, range(first, min(first + step, self.shape.stripes)), prefixes)
            prefixes = [b""] * len(self._sinks)

    async def add(self, windows: Outgoing, digest: Callable[[Buffer], object]) -> None:
        """Hash, encode and queue what is in them. Returns while that is under way, once those before are queued.

        QuorumLost when so few nodes are left that what they lack could not even be rebuilt, InsufficientStorage when
        it is for lack of room and too few are left to acknowledge: why take what cannot be stored?"""
        if self._adding is not None:
            await self._adding
        left = sum(not sink.gave_up for sink in self._sinks)
        if left < self._ref.k or (left == self._ref.k and self._lacks_room()):
            raise self._too_few(left)
        self._adding = asyncio.create_task(self._process(windows, digest))

    async def _process(self, windows: Outgoing, digest: Callable[[Buffer], object]) -> None:
        def hash_all() -> None:
            for cell in windows.cells:
                digest(cell)

        def fragment(shard: int) -> FragmentId:
            return FragmentId(self._ref.id, self._segment, shard)

        def hash_and_seal() -> None:
            hash_all()
            windows.seal(self._codec, fragment)

        loop = asyncio.get_running_loop()
        if windows.size <= INLINE_WORK_BYTES_MAX:
            hash_and_seal()
        elif windows.size <= ONE_THREAD_BYTES_MAX:
            await loop.run_in_executor(None, hash_and_seal)
        else:
            hashing = loop.run_in_executor(None, hash_all)
            try:
                await loop.run_in_executor(None, windows.seal, self._codec, fragment)
            finally:
                await hashing
        for sink, window in zip(self._sinks, windows.windows, strict=True):
            await sink.put(window)

    async def finish(self) -> list[int]:
        """Make every shard durable; returns those that could not be. Raises when fewer than k+1 are, and in time."""
        if self._adding is not None:
            await self._adding
        loop = asyncio.get_running_loop()
        streams = any(isinstance(sink, _Stream) for sink in self._sinks)  # those have taken their time already
        deadline = loop.time() + (SECOND_CHANCE_S if streams else limits.OPERATION_TIMEOUT_S)
        results = await self._finish_sinks(deadline)
        absent = [shard for shard, done in enumerate(results) if not done]
        if absent:
            await self._second_chances(absent, deadline)
        if self._is_short(absent):
            raise self._too_few(len(self._sinks) - len(absent))
        used = [sink.node for shard, sink in enumerate(self._sinks) if shard not in absent]
        assert len(set(used)) == len(used) > self._ref.k, "INV-5: too few distinct nodes"
        return absent

    async def _finish_sinks(self, deadline: float) -> list[bool]:
        """Whether each shard is durable. From the deadline on nobody waits for stand-ins if they cannot save it."""
        tasks = [asyncio.create_task(sink.finish()) for sink in self._sinks]
        try:
            await asyncio.wait(tasks, timeout=deadline - asyncio.get_running_loop().time())
            lost = [
                shard
                for shard, (sink, task) in enumerate(zip(self._sinks, tasks, strict=True))
                if (not task.result() if task.done() else sink.error is not None)
            ]
            if not self._is_short(lost):
                await asyncio.wait(tasks)
            return [task.done() and task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _is_short(self, absent: list[int]) -> bool:
        """Without these shards there would be too few to acknowledge."""
        return len(self._sinks) - len(absent) < self._ref.k + 1

    def _lacks_room(self) -> bool:
        return any(isinstance(sink.error, InsufficientStorage) for sink in self._sinks)

    def _too_few(self, durable: int) -> ObjstoreError:
        for sink in self._sinks:
            if isinstance(sink.error, InsufficientStorage):
                return sink.error
        return QuorumLost(
            f"{durable} of {len(self._sinks)} shards could be stored, {self._ref.k + 1} are needed; "
            f"last reason: {next((sink.error for sink in self._sinks if sink.error), 'no node is left')}"
        )

    async def _second_chances(self, absent: list[int], deadline: float) -> None:
        """Place shards that found no node, on any member that has a lease and holds none of this segment yet.

        A node that is back after a failure is not known to be at once; an acknowledged write must not lack a shard
        for that (P1). Takes what it places out of `absent`; ends when no member is left to try, or in time: at the
        deadline while there are too few shards, else once this has been tried for SECOND_CHANCE_S."""
        loop = asyncio.get_running_loop()
        patience = loop.time() + SECOND_CHANCE_S

        def left_s() -> float:
            return (min(deadline, patience) if self._is_short(absent) else patience) - loop.time()

        while (free := self._free(absent)) and left_s() > 0:
            free = await self._answering(free, min(PROBE_S, left_s()))
            owners = self._peers.topology.data_owners(self.partition)
            for shard in tuple(absent):
                free.sort(key=owners[shard].__ne__)  # its own node first; the order of the rest stays
                while free and shard in absent and left_s() > 0:
                    if await self._place(shard, free.pop(0), absent):
                        absent.remove(shard)
            if all(isinstance(self._sinks[shard].error, InsufficientStorage) for shard in absent):
                return
            await asyncio.sleep(SECOND_CHANCE_PAUSE_S)

    async def _answering(self, nodes: list[NodeId], timeout_s: float) -> list[NodeId]:
        """Those that answer now: making a shard anew on one that hangs would take far too long."""
        calls = (self._peers.call(node, Ping(), timeout_s=timeout_s) for node in nodes)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [node for node, answer in zip(nodes, answers, strict=True) if not isinstance(answer, BaseException)]

    def _free(self, absent: list[int]) -> list[NodeId]:
        """Members that hold no shard of this segment, in handoff order: those with a lease; while there are too few
        shards all of them, since on a machine out of breath a lease ends before its holder does."""
        topology = self._peers.topology
        holding = {sink.node for shard, sink in enumerate(self._sinks) if shard not in absent}
        order = (*topology.data_owners(self.partition), *topology.handoff(self.partition))
        everybody = self._is_short(absent)
        peers = self._peers
        free = [
            node
            for node in order
            if node not in holding and (everybody or (peers.has_lease(node) and not peers.is_full(node)))
        ]
        return free if absent else []

    async def _place(self, shard: int, node: NodeId, absent: list[int]) -> bool:
        """One shard on one node: sent again if it was kept, else made anew from those that are durable."""
        sink = self._sinks[shard]
        holders = {s: (other.node,) for s, other in enumerate(self._sinks) if s not in absent and other.node}
        job = Job(self._ref, self._segment, self.partition, holders, rebuild=(Placed(shard, node),))
        try:
            if isinstance(sink, _OneShot):
                await sink.offer(node)
            else:
                await Rebuilder(self._peers, backfill=False).run(job)
        except ObjstoreError as error:
            sink.error = error
            return False
        sink.node = node
        return True

    async def close(self) -> None:
        """Drop whatever is not durable; never raises for a node's failure."""
        if self._adding is not None and not self._adding.done():
            self._adding.cancel()
            await asyncio.gather(self._adding, return_exceptions=True)
        for sink in self._sinks:
            await sink.close()


class _Sink:
    """Where the windows of one shard go. `error` is the last reason why a node did not take it."""

    prefix = b""  # what the buffer of the first window begins with

    def __init__(
        self, peers: Peers, placer: Placer, partition: int, fragment: FragmentId, header: bytes, length: int
    ) -> None:
        self._peers = peers
        self._placer = placer
        self._partition = partition
        self._fragment = fragment
        self._header = header
        self._length = length  # of the whole envelope
        self.node: NodeId | None = placer.first(fragment.shard)
        self.error: ObjstoreError | None = None if self.node else placer.why_none()
        self.gave_up = False  # it will not take another window

    async def put(self, window: memoryview) -> None:
        raise NotImplementedError

    async def finish(self) -> bool:
        """True once the shard is durable on `node`."""
        raise NotImplementedError

    async def close(self) -> None:
        return None


class _OneShot(_Sink):
    """Keeps the whole small envelope, so that it can be offered to one node after the other."""

    def __init__(
        self, peers: Peers, placer: Placer, partition: int, fragment: FragmentId, header: bytes, length: int
    ) -> None:
        super().__init__(peers, placer, partition, fragment, header, length)
        self.prefix = self._header
        self._pieces: list[memoryview] = []

    async def put(self, window: memoryview) -> None:
        self._pieces.append(window)

    async def finish(self) -> bool:
        while self.node is not None:
            try:
                await self.offer(self.node)
            except ObjstoreError as error:
                self.error = error
                self.node = self._placer.after_failure(self.node)
            else:
                return True
        return False

    async def offer(self, node: NodeId) -> None:
        """Store the envelope on this node, or raise why not."""
        envelope = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        assert len(envelope) == self._length
        request = FragPut(self._partition, self._fragment.pack())
        await self._peers.call(node, request, envelope, timeout_s=PUT_TIMEOUT_S)


class _Stream(_Sink):
    """Sends windows as they come; a node that fails is given up and the shard is rebuilt at the end."""

    def __init__(
        self, peers: Peers, placer: Placer, partition: int, fragment: FragmentId, header: bytes, length: int
    ) -> None:
        super().__init__(peers, placer, partition, fragment, header, length)
        self._queue: asyncio.Queue[memoryview | None] = asyncio.Queue(WINDOWS_QUEUED)
        self._stream: int | None = None
        self._ended = False  # the last window has been taken from the queue
        self._pump = asyncio.create_task(self._run())

    async def put(self, window: memoryview) -> None:
        await self._queue.put(window)

    async def finish(self) -> bool:
        await self._queue.put(None)
        return await self._pump

    async def _run(self) -> bool:
        try:
            await self._send_all()
        except ObjstoreError as error:
            self.error = error
        else:
            return True
        self.gave_up = True
        while not self._ended:
            await self._next()  # given up: let the writer go on without this shard
        return False

    async def _next(self) -> memoryview | None:
        window = await self._queue.get()
        self._ended = window is None
        return window

    async def _send_all(self) -> None:
        await self._open_somewhere()
        assert self.node is not None and self._stream is not None
        offset = len(self._header)
        while (window := await self._next()) is not None:
            await self._peers.call(self.node, FragWrite(self._stream, offset), window, timeout_s=PUT_TIMEOUT_S)
            offset += len(window)
        assert offset == self._length
        await self._peers.call(self.node, FragCommit(self._stream), timeout_s=COMMIT_TIMEOUT_S)
        self._stream = None

    async def _open_somewhere(self) -> None:
        """On the shard's own node or on a stand-in; raises why it could not be."""
        loop = asyncio.get_running_loop()
        until = loop.time() + OPENING_S
        while self.node is not None and (left_s := until - loop.time()) > 0:
            try:
                self._stream = await self._open(self.node, min(OPEN_TIMEOUT_S, left_s))
                return
            except ObjstoreError as error:
                self.error = error
                self.node = self._placer.after_failure(self.node)
        raise self.error or QuorumLost("no node is left for this shard")

    async def _open(self, node: NodeId, timeout_s: float) -> int:
        request = FragOpen(self._partition, self._fragment.pack(), self._length)
        reply, _ = await self._peers.call(node, request, timeout_s=timeout_s)
        assert isinstance(reply, FragOpened), reply
        await self._peers.call(node, FragWrite(reply.stream, 0), self._header, timeout_s=timeout_s)
        return reply.stream

    async def close(self) -> None:
        if not self._pump.done():
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._stream is not None and self.node is not None and self._peers.is_up(self.node):
            try:
                await self._peers.call(self.node, FragAbort(self._stream), timeout_s=OPEN_TIMEOUT_S)
            except ObjstoreError:
                return  # the node forgets the stream by itself

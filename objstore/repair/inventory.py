"""What nodes hold and what registers refer to, joined and judged incrementally. Pure: no I/O, no clock.

The surveyor feeds it; the planner and the report read it. A change marks what it touches; `judge` works marks
off in bounded steps, so that the loop never waits long. Invariants:

- a node that does not answer holds nothing, at once; what it was last seen with is kept to tell "silent" from
  "gone", and counts again only when it answers;
- a listing tells what a node lacks only of blobs that were known when it was read: of others it may hold any shard;
- so a blob that a look has met is judged only when that look has read the listings, whoever wants it judged before;
- only segments of blobs that a live register refers to are judged; all others are garbage, not damage;
- the histogram has every object exactly once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from objstore.model.cluster import ErasureCode
from objstore.model.ids import BlobId, BucketId, NodeId
from objstore.model.manifest import BlobRef
from objstore.model.notification import Waiting
from objstore.model.records import Space
from objstore.placement.topology import Topology
from objstore.repair.planner import Agenda, SegmentView
from objstore.repair.record import Record
from objstore.repair.redundancy import Copy, replica_level, segment_level
from objstore.repair.tally import Flaw, Harm, Tally
from objstore.repair.usage import UsageTally

FRAGMENT_BYTES = 21
SEGMENT_BYTES = 20
_NODES = 1 << 16  # a copy is kept as shard * _NODES + node number


class _Home(NamedTuple):
    owners: tuple[NodeId, ...]
    perfect: tuple[int, ...]  # the copies of a segment that is complete, each shard at home
    live: bool  # every owner answers


class Inventory:
    def __init__(self, code: ErasureCode) -> None:
        self.code = code
        self.agenda = Agenda()
        self.garbage: dict[bytes, Record] = {}  # registers that name something to be collected
        self.ended_uploads: dict[bytes, Record] = {}
        self.ended_buckets: dict[BucketId, bytes] = {}  # and the register that says so
        self._uploads: dict[bytes, int] = {}  # registers of an upload (one), by its id
        self._parts: dict[bytes, int] = {}  # registers of its parts
        self.pending: dict[bytes, tuple[Waiting, ...]] = {}  # registers with events that are to be delivered
        self.tombstones: dict[int, dict[bytes, bytes]] = {}  # key -> ballot of the empty ones, by metadata partition
        self.flaws: dict[bytes, Flaw] = {}
        self.records: dict[int, dict[bytes, Record]] = {}  # by metadata partition
        self.tally = Tally(code)
        self.usage = UsageTally()
        self.generation = 0  # rises when liveness or layout changes: parked work is worth another look
        self._topology: Topology | None = None
        self._live: dict[NodeId, None] = {}
        self._numbers: dict[NodeId, int] = {}
        self._nodes: list[NodeId] = []
        self._listings: dict[tuple[NodeId, int], bytes] = {}
        self._reads = 0  # listings read so far: a clock for what was known when
        self._read_at: dict[tuple[NodeId, int], int] = {}
        self._known_at: dict[BlobId, int] = {}
        self._noted: dict[tuple[NodeId, int], int] = {}
        self._fragments: dict[NodeId, int] = {}
        self._copies: dict[bytes, tuple[int, ...]] = {}  # by segment
        self._users: dict[BlobId, tuple[bytes, ...]] = {}  # keys of the registers that refer to a blob
        self._blobs: dict[BlobId, BlobRef] = {}
        self._partition_of_key: dict[bytes, int] = {}
        self._replicas: dict[int, tuple[int, Mapping[bytes, int]]] = {}
        self.bucket_names: dict[BucketId, str] = {}
        self._homes: dict[int, _Home] = {}
        self._sweep: Iterator[BlobRef] | None = None  # blobs whose segments are still to be marked
        self._marked_segments: dict[bytes, None] = {}
        self._marked_keys: dict[bytes, None] = {}
        self._unlisted: dict[BlobId, None] | None = None  # while a look reads: blobs that it has met

    # --- what is told ---

    def set_cluster(self, topology: Topology, live: Collection[NodeId]) -> None:
        """The layout, and the members that answer. Marks everything when either has changed."""
        alive = dict.fromkeys(node for node in topology.node_ids if node in live)
        same_map = self._topology is not None and self._topology.map is topology.map
        if same_map and alive.keys() == self._live.keys():
            return
        self._topology = topology
        self._live = alive
        self._homes.clear()
        self.generation += 1
        self._sweep = iter(list(self._blobs.values()))

    def begin_look(self) -> None:
        """Registers are read now, and after them the listings."""
        self._unlisted = {} if self._unlisted is None else self._unlisted

    def end_look(self) -> None:
        """The listings are read, as far as nodes answered."""
        met, self._unlisted = self._unlisted or {}, None
        for blob in met:
            if blob in self._blobs:
                self._marked_segments.update(dict.fromkeys(segments_of(self._blobs[blob])))
                self._marked_keys.update(dict.fromkeys(self._users[blob]))

    def set_fragments(self, node: NodeId, partition: int, listing: bytes) -> None:
        """All fragments of a data partition on a node, as it lists them: 21 bytes each, in order."""
        self._reads += 1
        self._read_at[node, partition] = self._reads
        self._hold(node, partition, listing)

    def _hold(self, node: NodeId, partition: int, listing: bytes) -> None:
        old = self._listings.get((node, partition), b"")
        if old == listing:
            return
        before, after = set(_split(old)), set(_split(listing))
        for fragment in _split(listing):
            if fragment not in before:
                self._add(node, fragment)
        for fragment in _split(old):
            if fragment not in after:
                self._remove(node, fragment)
        self._listings[node, partition] = listing
        self._fragments[node] = self._fragments.get(node, 0) + (len(listing) - len(old)) // FRAGMENT_BYTES

    def note_stored(self, node: NodeId, partition: int, fragment: bytes) -> None:
        """Repair stored and verified a fragment: known before the next listing says so."""
        self._noted[node, partition] = self.noted(node, partition) + 1
        held = _split(self._listings.get((node, partition), b""))
        if fragment not in held:
            self._hold(node, partition, b"".join(sorted((*held, fragment))))

    def note_deleted(self, node: NodeId, partition: int, fragments: Collection[bytes]) -> None:
        self._noted[node, partition] = self.noted(node, partition) + 1
        held = _split(self._listings.get((node, partition), b""))
        self._hold(node, partition, b"".join(one for one in held if one not in fragments))

    def noted(self, node: NodeId, partition: int) -> int:
        """Rises with every note: a listing that was under way meanwhile may be older than the note."""
        return self._noted.get((node, partition), 0)

    def set_record(self, partition: int, key: bytes, record: Record | None) -> None:
        """The newest state of a register; None: it is gone from this partition."""
        table = self.records.setdefault(partition, {})
        old = table.pop(key, None)
        if record is not None:
            table[key] = record
            self._partition_of_key[key] = partition
        elif self._partition_of_key.get(key) == partition:
            del self._partition_of_key[key]
        before = _blobs_of(old)
        after = _blobs_of(record)
        for blob in before:
            if blob not in after:
                self._drop_user(blob, key)
        for blob, ref in after.items():
            if blob not in before or self._blobs[blob] != ref:
                self._add_user(blob, ref, key)
        self._marked_keys[key] = None
        if record is not None and record.empty:
            self.tombstones.setdefault(partition, {})[key] = record.ballot
        elif old is not None and old.empty:
            del self.tombstones[partition][key]
        self._note_endings(key, old, record)
        self.usage.turn(key, old, record)

    def _note_endings(self, key: bytes, old: Record | None, new: Record | None) -> None:
        """Keep what garbage collection looks at."""
        counted = self._parts if _is_part(key) else self._uploads
        for record, step in ((old, -1), (new, +1)):
            if record is not None and record.upload:
                counted[record.upload] = counted.get(record.upload, 0) + step
                if not counted[record.upload]:
                    del counted[record.upload]
        for bucket in old.ended_buckets if old is not None else ():
            self.ended_buckets.pop(bucket, None)
        self.garbage.pop(key, None)
        self.pending.pop(key, None)
        self.ended_uploads.pop(key, None)
        if old is not None and old.bucket:
            self.bucket_names.pop(BucketId(old.bucket), None)
        if new is not None and new.bucket:
            self.bucket_names[BucketId(new.bucket)] = key[17:].decode(errors="replace")
        if new is None:
            return
        if new.waiting:
            self.pending[key] = new.waiting
        self.ended_buckets.update(dict.fromkeys(new.ended_buckets, key))
        if new.ended and not _is_part(key):
            self.ended_uploads[key] = new
        elif new.ended or new.attempts or new.moves or (new.retired and not _is_part(key)):
            self.garbage[key] = new

    def end_parts(self, partition: int) -> None:
        """Parts of uploads that are over refer to nothing; the object that was made of them does."""
        table = self.records.get(partition, {})
        over = {record.upload for record in table.values() if record.ended}
        for key in [key for key, one in table.items() if one.upload in over and not one.ended and _is_part(key)]:
            self.set_record(partition, key, msgspec.structs.replace(table[key], blobs=(), ended=True))

    def set_replicas(self, partition: int, answering: int, lagging: Mapping[bytes, int]) -> None:
        """How many owners answer, and by how many the registers named in `lagging` are short of that."""
        if self._replicas.get(partition) != (answering, lagging):
            self._replicas[partition] = (answering, lagging)
            for key in self.records.get(partition, ()):
                self._marked_keys[key] = None

    def _add(self, node: NodeId, fragment: bytes) -> None:
        segment = fragment[:SEGMENT_BYTES]
        copy = fragment[SEGMENT_BYTES] * _NODES + self._number(node)
        have = self._copies.get(segment, ())
        if copy not in have:
            self._copies[segment] = tuple(sorted((*have, copy)))
            self._marked_segments[segment] = None

    def _remove(self, node: NodeId, fragment: bytes) -> None:
        segment = fragment[:SEGMENT_BYTES]
        copy = fragment[SEGMENT_BYTES] * _NODES + self._number(node)
        left = tuple(one for one in self._copies.get(segment, ()) if one != copy)
        if left:
            self._copies[segment] = left
        else:
            self._copies.pop(segment, None)
        self._marked_segments[segment] = None

    def _number(self, node: NodeId) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self._nodes)
            self._nodes.append(node)
        return number

    def _add_user(self, blob: BlobId, ref: BlobRef, key: bytes) -> None:
        if self._unlisted is not None and blob not in self._blobs:
            self._unlisted[blob] = None
        users = self._users.get(blob, ())
        self._users[blob] = users if key in users else (*users, key)
        self._blobs[blob] = ref
        self._known_at.setdefault(blob, self._reads)
        for segment in segments_of(ref):
            self._marked_segments[segment] = None

    def _drop_user(self, blob: BlobId, key: bytes) -> None:
        users = tuple(user for user in self._users.get(blob, ()) if user != key)
        if users:
            self._users[blob] = users
            return
        self._users.pop(blob, None)
        self._known_at.pop(blob, None)
        ref = self._blobs.pop(blob, None)
        for segment in segments_of(ref) if ref else ():
            self._marked_segments[segment] = None

    # --- judging ---

    @property
    def is_judged(self) -> bool:
        return self._sweep is None and not self._marked_segments and not self._marked_keys

    def judge(self, steps: int) -> None:
        """Work off up to `steps` marks: segments first, then the objects they belong to."""
        while steps > 0 and self._mark_more():
            segment, _ = self._marked_segments.popitem()
            self._judge_segment(segment)
            steps -= 1
        while steps > 0 and self._marked_keys:
            key, _ = self._marked_keys.popitem()
            self._judge_key(key)
            steps -= 1
        if self.is_judged:  # an emptied dict keeps the room that it had at its fullest
            self._marked_segments, self._marked_keys = {}, {}

    def _mark_more(self) -> bool:
        """False when no segment is left to judge."""
        while self._sweep is not None and not self._marked_segments:
            ref = next(self._sweep, None)
            if ref is None:
                self._sweep = None
            else:
                self._marked_segments.update(dict.fromkeys(segments_of(ref)))
        return bool(self._marked_segments)

    def _judge_segment(self, segment: bytes) -> None:
        if self._unlisted and segment[:16] in self._unlisted:
            return
        ref = self._blobs.get(BlobId(segment[:16]))
        flaw = self._find_flaw(segment, ref) if ref is not None and self._topology is not None else None
        old = self.flaws.pop(segment, None)
        if old is not None:
            self.tally.count_flaw(old, -1)
        if flaw is not None:
            self.flaws[segment] = flaw
            self.tally.count_flaw(flaw, +1)
        if flaw is not None and self._has_work(segment, flaw):
            self.agenda.push(segment, flaw.rank)
        else:
            self.agenda.discard(segment)
        if old != flaw:
            for key in self._users.get(BlobId(segment[:16]), ()):
                self._marked_keys[key] = None

    def _has_work(self, segment: bytes, flaw: Flaw) -> bool:
        return flaw.debt or len(self._live_copies(segment)) > flaw.readable

    def _find_flaw(self, segment: bytes, ref: BlobRef) -> Flaw | None:
        partition = self.partition_of(segment)
        home = self._home(partition)
        have = self._copies.get(segment, ())
        if home.live and have == home.perfect:
            self._copies[segment] = home.perfect  # one tuple for all that are complete
            return None
        copies = self._live_copies(segment)
        level = segment_level(copies, ref.k, ref.m, self.code)
        held = {(copy.shard, copy.node) for copy in copies}
        readable = {copy.shard for copy in copies}
        absent = []
        misplaced = 0
        for shard, owner in enumerate(home.owners[: ref.k + ref.m]):
            number = self._number(owner)
            if (shard, number) not in held:
                absent.append(number)
                misplaced += shard in readable and owner in self._live
        if level == self.code.shards and not absent and len(copies) == len(readable):
            return None
        lost = ref.k + ref.m - len(readable)
        harm = Harm.NONE
        if lost or misplaced:
            harm = Harm.DAMAGED if lost or level < self.code.shards else Harm.MISPLACED
        length = -(-ref.segment_length(int.from_bytes(segment[16:], "big")) // ref.k)
        traffic = ((ref.k + lost if lost else 0) + 2 * misplaced) * length
        return Flaw(level, len(readable), harm, tuple(absent), (lost + misplaced) * length, traffic)

    def _judge_key(self, key: bytes) -> None:
        record, partition = self.record(key), self._partition_of_key.get(key)
        if self._unlisted and any(ref.id in self._unlisted for ref in (record.blobs if record else ())):
            return
        level, harm, at_home = self.code.shards, Harm.NONE, True
        for ref in record.blobs if record else ():
            for segment in segments_of(ref):
                flaw = self.flaws.get(segment)
                if flaw is not None:
                    level = min(level, flaw.level)
                    harm = max(harm, flaw.harm)
                    at_home = at_home and not flaw.absent_at
        counted = record is not None and record.counted and partition is not None
        if counted:
            assert partition is not None
            answering, lagging = self._replicas.get(partition, (0, {}))
            level = min(level, replica_level(answering - lagging.get(key, 0), self.code))
            verdict = level, Harm.DAMAGED if level < self.code.shards else harm
            self.tally.set_verdict(key, verdict, at_home=at_home)
        else:
            self.tally.set_verdict(key, None)
        self.tally.set_part(key, harm if record is not None and not counted else Harm.NONE)

    # --- what is asked ---

    @property
    def topology(self) -> Topology:
        assert self._topology is not None, "asked before the first look"
        return self._topology

    @property
    def live(self) -> Collection[NodeId]:
        return self._live.keys()

    def blob(self, segment: bytes) -> BlobRef | None:
        """None: no live register refers to it."""
        return self._blobs.get(BlobId(segment[:16]))

    def record(self, key: bytes) -> Record | None:
        partition = self._partition_of_key.get(key)
        return self.records[partition].get(key) if partition is not None else None

    def knows(self, blob: BlobId) -> bool:
        return blob in self._blobs

    def users_of(self, blob: BlobId) -> tuple[bytes, ...]:
        return self._users.get(blob, ())

    def partition_of(self, segment: bytes) -> int:
        return self.topology.partition_of_blob(segment[:16], int.from_bytes(segment[16:], "big"))

    def fragments_on(self, node: NodeId) -> int:
        return self._fragments.get(node, 0) if node in self._live else 0

    def needed_on(self, node: NodeId) -> int:
        """Fragments on a node that a register refers to, or may yet: all but those of blobs that were retired."""
        retired = {one.blob.id for record in self.garbage.values() for one in record.retired}
        listings = [listing for (holder, _), listing in self._listings.items() if holder == node]
        blobs = [BlobId(fragment[:16]) for listing in listings for fragment in _split(listing)]
        return sum(blob in self._blobs or blob not in retired for blob in blobs)

    def missing_on(self, node: NodeId) -> int:
        return self.tally.missing_on(self._numbers.get(node, -1))

    def has_parts(self, upload: bytes) -> bool:
        return upload in self._parts

    def stray_parts(self) -> dict[bytes, Record]:
        """Parts of uploads that are not there (any more)."""
        stray = self._parts.keys() - self._uploads.keys()
        if not stray:
            return {}
        tables = self.records.values()
        return {key: one for table in tables for key, one in table.items() if one.upload in stray and _is_part(key)}

    def listed(self) -> Iterator[bytes]:
        """Every segment that some node holds a fragment of."""
        return iter(self._copies)

    def shards_listed(self, segment: bytes) -> list[tuple[int, NodeId]]:
        """Every known copy, also on nodes that do not answer now."""
        return [(copy // _NODES, self._nodes[copy % _NODES]) for copy in self._copies.get(segment, ())]

    def view(
        self,
        segment: bytes,
        silent: Collection[NodeId],
        late: Collection[NodeId],
        full: Collection[NodeId] = (),
        closed: Collection[NodeId] = (),
    ) -> SegmentView | None:
        """What the planner needs to know of a segment. None when nothing refers to it any more."""
        ref = self.blob(segment)
        if ref is None:
            return None
        holders: dict[int, list[NodeId]] = {}
        with_silent: dict[int, NodeId] = {}
        for shard, node in self.shards_listed(segment):
            if node in self._live:
                holders.setdefault(shard, []).append(node)
            elif node in silent:
                with_silent[shard] = node
        partition = self.partition_of(segment)
        owners = self._home(partition).owners[: ref.k + ref.m]
        number = int.from_bytes(segment[16:], "big")
        for shard, home in enumerate(owners):
            is_silent = home in silent and home not in self._live
            if is_silent and not self._told(home, partition, ref) and (number, shard) not in ref.absent:
                with_silent.setdefault(shard, home)
        out = self.topology.map.newest.out
        return SegmentView(ref.k, owners, holders, self._live.keys(), late, with_silent, out, full, closed)

    def rescuers(self, segment: bytes) -> frozenset[NodeId]:
        """Members that do not answer and may make an unreadable segment readable when they return; none if all of
        them together cannot."""
        ref = self.blob(segment)
        if ref is None:
            return frozenset()
        partition = self.partition_of(segment)
        away = [node for node in self.topology.node_ids if node not in self._live]
        copies = self.shards_listed(segment)
        readable = {shard for shard, node in copies if node in self._live}
        lost = {(shard, node) for shard, node in copies if shard not in readable and node in away}
        untold = {node for node in away if not self._told(node, partition, ref)}
        if len(readable) + len({shard for shard, _ in lost}) + len(untold) < ref.k:
            return frozenset()
        return frozenset(untold.union(node for _, node in lost))

    def _told(self, node: NodeId, partition: int, ref: BlobRef) -> bool:
        """Whether the node's listing says what it holds of this blob."""
        return self._read_at.get((node, partition), 0) > self._known_at[ref.id]

    def _live_copies(self, segment: bytes) -> Sequence[Copy]:
        copies = (Copy(copy // _NODES, copy % _NODES) for copy in self._copies.get(segment, ()))
        return [copy for copy in copies if self._nodes[copy.node] in self._live]

    def _home(self, partition: int) -> _Home:
        home = self._homes.get(partition)
        if home is None:
            owners = self.topology.data_owners(partition)
            perfect = tuple(shard * _NODES + self._number(owner) for shard, owner in enumerate(owners))
            live = all(owner in self._live for owner in owners)
            home = self._homes[partition] = _Home(owners, perfect, live)
        return home


def segments_of(ref: BlobRef) -> Iterator[bytes]:
    for number in range(ref.segments):
        yield ref.id + number.to_bytes(4, "big")


def _is_part(key: bytes) -> bool:
    return key[16] == Space.PART


def _blobs_of(record: Record | None) -> dict[BlobId, BlobRef]:
    return {ref.id: ref for ref in record.blobs} if record is not None else {}


def _split(listing: bytes) -> list[bytes]:
    return [listing[i : i + FRAGMENT_BYTES] for i in range(0, len(listing), FRAGMENT_BYTES)]

"""How the registers of an acceptor lie in the key-value store: rows, keys, and exact byte order over them.

    reg      place of the register  -> ballots, listing, small state
    inline   place of the register  -> ballot, large state, data: whatever a scan should not have to read
    fence    partition              -> tag
    floor    partition              -> ballot

A *place* is the partition and the packed key; a key that is too long for the store is cut and hashed, and then its
row holds all of it. Cut keys sort by hash, so `ordered` puts the group that shares a cut back into byte order.
Reads only, and pure packing: decisions are in `objstore.node.registers`.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from objstore.model.clock import ZERO, Ballot
from objstore.model.errors import Corrupt
from objstore.node.index import PAGE as PAGE
from objstore.node.index import rows_of, successor
from objstore.node.journal_format import Promise, Record, Value, value_length
from objstore.node.sealed import SealedKV
from objstore.ports import KV, DamagedKV, Rows, Scans, Write
from objstore.register.acceptor import EMPTY, AcceptorState

REG = "reg"
INLINE = "inline"
FENCE = "fence"
FLOOR = "floor"
TABLES = (REG, INLINE, FENCE, FLOOR)

STATE_IN_ROW_MAX = 1024  # above, the state moves to `inline`: scans and promises then skip it
CUT = 480  # places up to here are stored as they are
_HASH = 16  # of a longer one follow this many bytes of hash: 496 bytes, so never equal to a whole place
_FORMAT = 1
_ROW = struct.Struct(">B16s16sIIIH")  # format, promised, accepted, lengths of listing, state, data, and long place
_PARTITION = struct.Struct(">H")
_TAG = struct.Struct(">Q")
_GROUP_PAGE = 256
_FORMATS = {_FORMAT}
_format_of = itemgetter(0)
_ACCEPTED = slice(17, 33)  # of a row
_LISTING_LENGTH = slice(33, 37)
_AHEAD = 2  # rows read beyond those asked for, since some do not count


class Held(NamedTuple):
    """One register: the acceptor's ballots and the accepted value (model.records.Value)."""

    acceptor: AcceptorState
    listing: bytes
    state: bytes
    data: bytes


NOTHING = Held(EMPTY, b"", b"", b"")


class Row(NamedTuple):
    """What `reg` alone says of a register."""

    place: bytes
    promised: bytes
    accepted: bytes  # packed ballot
    listing: bytes
    state: bytes  # b"" when it is in `inline`
    state_length: int
    data_length: int

    @property
    def is_written(self) -> bool:
        return self.accepted != _NEVER

    @property
    def record_length(self) -> int:
        """Of its value in the record journal."""
        return value_length(len(self.place) - 2, len(self.listing), self.state_length, self.data_length)

    @property
    def has_inline(self) -> bool:
        return self.data_length > 0 or self.state_length > STATE_IN_ROW_MAX


_NEVER = ZERO.pack()


def place_of(partition: int, key: bytes) -> bytes:
    return _PARTITION.pack(partition) + key


def stored_key(place: bytes) -> bytes:
    """A cryptographic hash: keys are chosen by clients, and two of them must never meet in one row."""
    if len(place) <= CUT:
        return place
    return place[:CUT] + hashlib.blake2b(place, digest_size=_HASH).digest()


def writes_for(place: bytes, held: Held, previous: Held) -> list[Write]:
    """Rows that turn `previous` into `held`. A new promise alone leaves `inline` as it is."""
    key = stored_key(place)
    large = len(held.state) > STATE_IN_ROW_MAX
    row = b"".join(
        (
            _ROW.pack(
                _FORMAT,
                held.acceptor.promised.pack(),
                held.acceptor.accepted.pack(),
                len(held.listing),
                len(held.state),
                len(held.data),
                len(place) if len(place) > CUT else 0,
            ),
            place if len(place) > CUT else b"",
            held.listing,
            b"" if large else held.state,
        )
    )
    writes: list[Write] = [(REG, key, row)]
    if held.acceptor.accepted != previous.acceptor.accepted:
        if large or held.data:
            inline = b"".join((held.acceptor.accepted.pack(), held.state if large else b"", held.data))
            writes.append((INLINE, key, inline))
        elif previous.data or len(previous.state) > STATE_IN_ROW_MAX:
            writes.append((INLINE, key, None))
    return writes


def removal(place: bytes, held: Held) -> list[Write]:
    """Rows that forget one register."""
    key = stored_key(place)
    has_inline = held.data or len(held.state) > STATE_IN_ROW_MAX
    return [(REG, key, None), *([(INLINE, key, None)] if has_inline else [])]


def removing(kv: KV, partition: int) -> list[Write]:
    """Rows that forget every register of a partition, and its floor."""
    writes: list[Write] = [(FLOOR, _PARTITION.pack(partition), None)]
    start, end = _PARTITION.pack(partition), successor(_PARTITION.pack(partition))
    for key, raw in rows_of(kv, REG, start, end):
        writes.append((REG, key, None))
        if unpack(key, raw).has_inline:
            writes.append((INLINE, key, None))
    return writes


def unpack(key: bytes, raw: bytes) -> Row:
    if len(raw) < _ROW.size or raw[0] != _FORMAT:
        raise Corrupt(f"a register row has format {raw[:1].hex()}, which this release does not know")
    _, promised, accepted, listing_length, state_length, data_length, place_length = _ROW.unpack_from(raw)
    at = _ROW.size
    place = raw[at : at + place_length] if place_length else key
    at += place_length
    listing = raw[at : at + listing_length]
    return Row(place, promised, accepted, listing, raw[at + listing_length :], state_length, data_length)


class Written(NamedTuple):
    """Registers in byte order, column by column: an object for each row would cost more than reading it."""

    places: list[bytes]
    ballots: list[bytes]  # accepted
    listings: list[bytes]  # [] where nobody needs them


def written(kv: Scans, start: bytes, end: bytes | None, *, limit: int) -> Written:
    """The first registers with start <= place < end of which something was accepted."""
    if len(start) <= CUT and (end is None or len(end) <= CUT):
        found = kv.scan(REG, start, end, limit=limit + _AHEAD)
        page = _columns(found, limit, is_all=len(found) < limit + _AHEAD, with_listings=True)
        if page is not None:
            return page
    page = Written([], [], [])
    for row in ordered(kv, start, end, page=min(PAGE, limit + _AHEAD)):
        if row.is_written:
            page.places.append(row.place)
            page.ballots.append(row.accepted)
            page.listings.append(row.listing)
            if len(page.places) == limit:
                break
    return page


def vouched(kv: Scans, start: bytes, end: bytes | None, *, limit: int) -> Written:
    """As `written`, without listings, for nothing but a digest that is compared with one of verified rows."""
    if isinstance(kv, SealedKV) and len(start) <= CUT and (end is None or len(end) <= CUT):
        found = kv.unverified(REG, start, end, limit=limit + _AHEAD)
        page = _columns(found, limit, is_all=len(found) < limit + _AHEAD, with_listings=False)
        if page is not None:
            return page
    return written(kv, start, end, limit=limit)


def _columns(found: Rows, limit: int, *, is_all: bool, with_listings: bool) -> Written | None:
    """None: there are places that were cut, too few rows, or rows of a kind that `unpack` should look at."""
    if not found:
        return Written([], [], [])
    places, raws = (list(column) for column in zip(*found, strict=True))
    if max(map(len, places)) > CUT or min(map(len, raws)) < _ROW.size or set(map(_format_of, raws)) != _FORMATS:
        return None
    ballots = [raw[_ACCEPTED] for raw in raws]
    if _NEVER in ballots:
        kept = [i for i, ballot in enumerate(ballots) if ballot != _NEVER]
        if len(kept) < limit and not is_all:
            return None
        places, raws, ballots = [places[i] for i in kept], [raws[i] for i in kept], [ballots[i] for i in kept]
    del places[limit:], raws[limit:], ballots[limit:]
    if not with_listings:
        return Written(places, ballots, [])
    lengths = struct.unpack(f">{len(raws)}I", b"".join([raw[_LISTING_LENGTH] for raw in raws]))
    start = _ROW.size
    return Written(places, ballots, [raw[start : start + n] for raw, n in zip(raws, lengths, strict=True)])


Ahead = Mapping[tuple[str, bytes], bytes | None]  # rows that are durable and not in the store yet, by table and key
_NONE_AHEAD: Ahead = {}


def load(kv: KV, place: bytes, *, ahead: Ahead = _NONE_AHEAD, with_data: bool = True) -> Held:
    """The durable register; rows of `ahead` pass those of the store."""
    return _held(kv, place, None, with_data, ahead)


def caught_up(kv: KV, records: Iterable[Record]) -> list[Write]:
    """Rows that follow from promises and values of the journal, which are told in the order in which they were made."""
    before: dict[bytes, Held] = {}
    after: dict[bytes, Held] = {}
    for record in records:
        if not isinstance(record, Promise | Value):
            continue
        place = place_of(record.partition, record.key)
        if place not in after:
            before[place] = after[place] = load(kv, place)
        (promised, accepted), ballot = after[place].acceptor, Ballot.unpack(record.ballot)
        if isinstance(record, Value) and ballot > accepted:
            state = AcceptorState(max(promised, ballot), ballot)
            after[place] = Held(state, record.listing, record.state, record.data)
        elif isinstance(record, Promise) and ballot > promised:
            after[place] = after[place]._replace(acceptor=AcceptorState(ballot, accepted))
    return [write for place, held in after.items() for write in writes_for(place, held, before[place])]


def complete(kv: KV, row: Row, *, with_data: bool) -> Held:
    """The register of a row that was read before; newer if it has changed since."""
    return _held(kv, row.place, row, with_data)


def _held(kv: KV, place: bytes, row: Row | None, with_data: bool, ahead: Ahead = _NONE_AHEAD) -> Held:
    """A commit may come between the reads of the two tables; the ballot in both tells, and then we read again.

    Without `ahead`: a promise that waits there goes with the inline row of the store, and when that is another one,
    a commit has put into the store what waits and more, though its news has not come yet.
    """
    key = stored_key(place)
    for _ in range(16):
        if row is None:
            raw = _get(kv, ahead, REG, key)
            if raw is None:
                return NOTHING
            row = unpack(key, raw)
            if row.place != place:
                raise Corrupt("a register row holds another key than the one it is stored under")
        acceptor = AcceptorState(Ballot.unpack(row.promised), Ballot.unpack(row.accepted))
        state_is_large = row.state_length > STATE_IN_ROW_MAX
        if not state_is_large and not (with_data and row.data_length):
            return Held(acceptor, row.listing, row.state, b"")
        inline = _get(kv, ahead, INLINE, key)
        if inline is not None and inline.startswith(row.accepted):
            end = 16 + row.state_length if state_is_large else 16
            state = inline[16:end] if state_is_large else row.state
            return Held(acceptor, row.listing, state, inline[end:] if with_data else b"")
        row, ahead = None, _NONE_AHEAD
    raise DamagedKV("a register has lost its inline value")


def _get(kv: KV, ahead: Ahead, table: str, key: bytes) -> bytes | None:
    if ahead and (table, key) in ahead:
        return ahead[table, key]
    return kv.get(table, key)


def read_fence(kv: KV, partition: int) -> int:
    raw = kv.get(FENCE, _PARTITION.pack(partition))
    return 0 if raw is None else int(_TAG.unpack(raw)[0])


def fence_write(partition: int, tag: int) -> Write:
    return FENCE, _PARTITION.pack(partition), _TAG.pack(tag)


def fences(kv: KV) -> Iterator[tuple[int, int]]:
    for key, value in rows_of(kv, FENCE):
        yield _PARTITION.unpack(key)[0], _TAG.unpack(value)[0]


def read_floor(kv: KV, partition: int) -> Ballot:
    raw = kv.get(FLOOR, _PARTITION.pack(partition))
    return ZERO if raw is None else Ballot.unpack(raw)


def floor_write(partition: int, floor: Ballot) -> Write:
    return FLOOR, _PARTITION.pack(partition), floor.pack()


def floors(kv: KV) -> Iterator[tuple[int, Ballot]]:
    for key, value in rows_of(kv, FLOOR):
        yield _PARTITION.unpack(key)[0], Ballot.unpack(value)


def all_rows(kv: KV) -> Iterator[Row]:
    """In the order of the store, which is not exactly that of the places."""
    for key, raw in rows_of(kv, REG):
        yield unpack(key, raw)


def ordered(kv: Scans, start: bytes, end: bytes | None, *, page: int = PAGE) -> Iterator[Row]:
    """Rows with start <= place < end, in byte order of the places; read `page` at a time."""
    at: bytes | None = start[:CUT]
    stop = end if end is None or len(end) <= CUT else successor(end[:CUT])
    while at is not None:
        cut: bytes | None = None
        for key, raw in rows_of(kv, REG, at, stop, page=page):
            if len(key) > CUT:
                cut = key[:CUT]
                break
            row = unpack(key, raw)
            if row.place >= start:
                if end is not None and row.place >= end:
                    return
                yield row
        if cut is None:
            return
        yield from _group(kv, cut, start, end)
        at = successor(cut)


def _group(kv: Scans, cut: bytes, start: bytes, end: bytes | None) -> Iterator[Row]:
    """The rows whose places share a cut: each pass finds the next few, so that memory stays small."""
    low = max(start, cut + b"\x00")
    while True:
        rows = (unpack(key, raw) for key, raw in rows_of(kv, REG, cut + b"\x00", successor(cut)))
        wanted = (row for row in rows if row.place >= low and (end is None or row.place < end))
        page = heapq.nsmallest(_GROUP_PAGE, wanted, key=_place)
        yield from page
        if len(page) < _GROUP_PAGE:
            return
        low = page[-1].place + b"\x00"


def _place(row: Row) -> bytes:
    return row.place

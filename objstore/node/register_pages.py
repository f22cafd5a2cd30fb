"""Pages of registers: scans for lists, pulls for sync and repair. Blocking; run in an executor.

Each page is bounded by count and by bytes, and always makes progress: one record, or the end. Registers that were
only promised appear to those who ask for promises, and nowhere else: nobody accepted anything there.
"""

from __future__ import annotations

from collections.abc import Sequence

from objstore.model import limits
from objstore.model.clock import ZERO
from objstore.node import register_rows as rows
from objstore.node.index import successor
from objstore.ports import KV, Scans
from objstore.register.scan import digest_of
from objstore.wire.messages import Page, PageAsk, RegPages, RegPull, RegPulled, RegScan, RegScanned

_NO_PAGE = Page(b"")
_AHEAD = 8  # read that many more rows than asked for, since some do not count


def scan_page(kv: Scans, values: KV, request: RegScan) -> RegScanned:
    """`values`: where states that are asked for and long are read."""
    kind = rows.place_of(request.partition, request.bucket + bytes((request.space,)))
    end = kind + request.end if request.end else successor(kind)
    names: list[bytes] = []
    ballots = bytearray()
    listings: list[bytes] = []
    states: list[bytes] = []
    size = 0
    page = min(rows.PAGE, request.limit + _AHEAD)
    for row in rows.ordered(kv, kind + request.start, end, page=page):
        if not row.is_written:
            continue
        weight = len(row.place) + len(row.listing) + (row.state_length if request.with_state else 0)
        if names and (len(names) == request.limit or size + weight > limits.SCAN_BYTES_MAX):
            return RegScanned(names, bytes(ballots), listings, states, True)
        accepted, listing = row.accepted, row.listing
        if request.with_state:
            held = rows.complete(values, row, with_data=False)
            if held.acceptor.accepted == ZERO:
                continue  # dropped since
            accepted, listing = held.acceptor.accepted.pack(), held.listing
            states.append(held.state)
        names.append(row.place[len(kind) :])
        ballots += accepted
        listings.append(listing)
        size += weight
    return RegScanned(names, bytes(ballots), listings, states, False)


def list_pages(kv: Scans, request: RegPages, asks: Sequence[PageAsk | None]) -> list[Page]:
    """One page per ask; none for those that are None, and for those behind which the reply would be too long. What
    is held as a whole is the caller's to say."""
    pages: list[Page] = []
    size = 0
    for ask in asks:
        if ask is None or size > limits.SCAN_BYTES_MAX:
            pages.append(_NO_PAGE)
            continue
        kind = rows.place_of(ask.partition, request.bucket + bytes((request.space,)))
        end = kind + request.end if request.end else successor(kind)
        read = rows.written if ask.tell else rows.vouched
        found = read(kv, kind + ask.start, end, limit=request.limit + 1)
        more = len(found.places) > request.limit
        for column in found:
            del column[request.limit :]
        digest = digest_of(found.places, found.ballots, more)
        if not ask.tell:
            pages.append(Page(digest))
            continue
        names = [place[len(kind) :] for place in found.places]
        pages.append(Page(digest, names, found.listings, more))
        size += sum(map(len, names)) + sum(map(len, found.listings))
    return pages


def pull_page(kv: KV, request: RegPull) -> tuple[RegPulled, bytes]:
    """With `ballots_only` the lists of listings, states and lengths stay empty; only then are promises given."""
    fence = rows.read_fence(kv, request.partition)  # before the floor and the rows, see objstore.node.registers
    floor = rows.read_floor(kv, request.partition)
    start = rows.place_of(request.partition, request.after + b"\x00" if request.after else b"")
    end = successor(rows.place_of(request.partition, b""))
    with_promises = request.promises and request.ballots_only
    keys: list[bytes] = []
    ballots = bytearray()
    promises = bytearray()
    values: list[rows.Held] = []
    size = 0
    more = False
    for row in rows.ordered(kv, start, end, page=min(rows.PAGE, request.limit + _AHEAD)):
        if not row.is_written and not with_promises:
            continue
        weight = len(row.place)
        if not request.ballots_only:
            weight += len(row.listing) + row.state_length + row.data_length
        if keys and (len(keys) == request.limit or size + weight > limits.SCAN_BYTES_MAX):
            more = True
            break
        accepted = row.accepted
        if not request.ballots_only:
            held = rows.complete(kv, row, with_data=True)
            if held.acceptor.accepted == ZERO:
                continue  # dropped since
            accepted = held.acceptor.accepted.pack()
            values.append(held)
        keys.append(row.place[2:])
        ballots += accepted
        promises += row.promised if with_promises else b""
        size += weight
    reply = RegPulled(
        keys,
        bytes(ballots),
        [held.listing for held in values],
        [held.state for held in values],
        [len(held.data) for held in values],
        more,
        fence,
        bytes(promises),
        floor.pack(),
    )
    return reply, b"".join(held.data for held in values)

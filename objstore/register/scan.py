"""Merging scans of the replicas of a partition into what is certain, and what must be read. Pure.

INV-4: a name is settled by a scan only when a majority of every acceptor set reports the same accepted ballot
for it. Tombstones take part like values. Everything else is disputed and gets a linearizable read.

Where nothing is being written replicas hold the same, so a page is first asked of one, and of others only a digest
(`agreed`): of all that the partition holds, which each acceptor knows without reading a row, or of the page. Digests
that are equal are as good as pages that are, name by name; if they are not, pages are merged.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from objstore.model.ids import NodeId
from objstore.register.quorum import QuorumTracker, Sets
from objstore.wire.messages import Page, RegScanned


class Merged(NamedTuple):
    """Ascending by name; `listing` None = disputed. All names below `until` are covered (b"" = to the end)."""

    names: list[tuple[bytes, bytes | None]]
    until: bytes


def digest_of(places: Sequence[bytes], ballots: Sequence[bytes], more: bool) -> bytes:
    """Of a page: 16 bytes. Cryptographic, as clients choose the names; with their lengths, so that nothing that was
    cut otherwise has the same."""
    lengths = struct.pack(f">?{len(places)}H", more, *map(len, places))
    return hashlib.sha256(b"".join((lengths, *ballots, *places))).digest()[:16]


def vouches(page: Page, told: Page) -> bool:
    """Whoever answered `page` holds what was `told`: of that page the same, or of all the partition."""
    return bool(told.digest) and (page.digest == told.digest or (bool(told.whole) and page.whole == told.whole))


def agreed(sets: Sets, pages: Mapping[NodeId, Page], told: Collection[NodeId]) -> Page | None:
    """The page of one of those who told theirs for which a majority of every set vouches, or None."""
    for teller in told:
        same = [node for node, page in pages.items() if vouches(page, pages[teller])]
        if all(sum(node in same for node in one) > len(one) // 2 for one in sets):
            return pages[teller]
    return None


def after(page: Page | RegScanned) -> bytes:
    """The name where the range goes on behind a page; b"": it ended."""
    if not page.more:
        return b""
    return page.names[-1] + b"\x00" if page.names else b"\x00"


def merge(sets: Sets, pages: Mapping[NodeId, RegScanned]) -> Merged:
    """Pages of one range, from at least a majority of every set, all beginning at the same name."""
    until = b""
    for page in pages.values():
        if bound := after(page):
            until = min(until, bound) if until else bound
    reports: dict[bytes, list[tuple[bytes, NodeId, bytes]]] = {}
    for node, page in pages.items():
        ballots = page.ballots
        for i, name in enumerate(page.names):
            if not until or name < until:
                reports.setdefault(name, []).append((ballots[16 * i : 16 * i + 16], node, page.listings[i]))
    majority_of_one = len(sets) == 1 and len(pages) == len(sets[0]) // 2 + 1
    out: list[tuple[bytes, bytes | None]] = []
    for name in sorted(reports):
        rows = reports[name]
        if majority_of_one:  # the common case: exactly a majority answered, so all must agree
            ballot = rows[0][0]
            agreed = len(rows) == len(pages) and all(row[0] == ballot for row in rows)
            out.append((name, rows[0][2] if agreed else None))
        else:
            out.append((name, _settled(sets, rows)))
    return Merged(out, until)


def _settled(sets: Sets, rows: Sequence[tuple[bytes, NodeId, bytes]]) -> bytes | None:
    top = max(row[0] for row in rows)
    tracker = QuorumTracker(sets)
    for ballot, node, _ in rows:
        if ballot == top:
            tracker.success(node)
    return next(row[2] for row in rows if row[0] == top) if tracker.met else None

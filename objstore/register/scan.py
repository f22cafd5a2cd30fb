"""Merging scans of the replicas of a partition into what is certain, and what must be read. Pure.

INV-4: a name is settled by a scan only when a majority of every acceptor set reports the same accepted ballot
for it. Tombstones take part like values. Everything else is disputed and gets a linearizable read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from objstore.model.ids import NodeId
from objstore.register.quorum import QuorumTracker, Sets
from objstore.wire.messages import RegScanned


class Merged(NamedTuple):
    """Ascending by name; `listing` None = disputed. All names below `until` are covered (b"" = to the end)."""

    names: list[tuple[bytes, bytes | None]]
    until: bytes


def merge(sets: Sets, pages: Mapping[NodeId, RegScanned]) -> Merged:
    """Pages of one range, from at least a majority of every set, all beginning at the same name."""
    until = b""
    for page in pages.values():
        if page.more:
            bound = page.names[-1] + b"\x00" if page.names else b"\x00"
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

"""What nodes found damaged, as events. Pure: each lease says how much a node ever found, the difference is news."""

from __future__ import annotations

from collections.abc import Iterable

from objstore.model.cluster import NodeLease
from objstore.model.ids import NodeId
from objstore.model.scrubbing import ScrubFound


class Findings:
    """One per leader: what was found before it began is no news to it."""

    def __init__(self) -> None:
        self._known: dict[NodeId, tuple[int, ScrubFound]] = {}

    def news(self, leases: Iterable[NodeLease]) -> list[str]:
        """A line for each node that found something since it was looked at last."""
        lines = []
        for lease in leases:
            now = lease.damaged_ms, lease.scrub.found_ever
            before = self._known.get(lease.id, now)
            self._known[lease.id] = now
            by_scrub = now[1].since(before[1])
            if by_scrub.total:
                lines.append(f"the scrub of {lease.name} found damage: {by_scrub}")
            elif now[0] > before[0]:
                lines.append(f"{lease.name} found a damaged fragment and quarantined it")
        return lines

"""What nodes found damaged becomes an event once, whoever found it."""

from __future__ import annotations

import msgspec

from objstore.model.cluster import NodeLease
from objstore.model.ids import NodeId
from objstore.model.scrubbing import ScrubFound, ScrubReport
from objstore.repair.findings import Findings

LEASE = NodeLease(NodeId("a" * 16), "n1", "z", "host:1", 1, 0, 1, 1, "1")


def having(damaged_ms: int = 0, **found: int) -> NodeLease:
    return msgspec.structs.replace(LEASE, damaged_ms=damaged_ms, scrub=ScrubReport(found_ever=ScrubFound(**found)))


def test_only_what_is_new_is_news() -> None:
    findings = Findings()
    assert findings.news([having(5, corrupt=3)]) == [], "found before this leader began"
    assert findings.news([having(5, corrupt=3)]) == []
    assert findings.news([having(6, corrupt=4, missing=2)]) == ["the scrub of n1 found damage: 1 corrupt, 2 missing"]
    assert findings.news([having(6, corrupt=4, missing=2)]) == []
    assert findings.news([having(9, corrupt=4, missing=2)]) == ["n1 found a damaged fragment and quarantined it"]
    assert findings.news([having(9)]) == [], "it lost its count"
    assert findings.news([having(9, records=1)]) == ["the scrub of n1 found damage: 1 in journal records"]

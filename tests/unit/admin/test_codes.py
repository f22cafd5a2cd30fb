"""Every health code has a severity, a runbook and a command, and can be produced; nothing produces another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

import objstore.admin
from objstore.admin import snapshot
from objstore.admin.codes import CODES, Code
from objstore.admin.snapshot import Observation, build
from objstore.cli.health import render, runbook
from objstore.cli.main import COMMANDS
from objstore.model.cluster import ErasureCode, NodeLease
from objstore.model.scrubbing import ScrubReport
from objstore.model.survey import RepairProgress, TargetReport
from objstore.model.usage import UsageHead
from tests.meta.source import ROOT, modules
from tests.unit.admin.test_snapshot import HEALTHY, NOT_HEALTHY, NOW, changed, codes, lease, with_map, with_survey

FOLDER = Path(objstore.admin.__file__).parent
BUSY = RepairProgress("running", done=1, total=5, started_ms=NOW - snapshot.STALLED_MS - 1)


def with_lease(**fields: object) -> Observation:
    return changed(nodes=(*HEALTHY.nodes[1:], msgspec.structs.replace(lease(0), **fields)))


def with_clocks(*offsets_ms: int) -> Observation:
    return changed(clocks={node.address: offset for node, offset in zip(HEALTHY.nodes, offsets_ms, strict=False)})


MORE: dict[str, Observation] = {
    "CLOCK_SKEW": with_clocks(0, 0, 0, 5_001),
    "FSYNC_SLOW": with_lease(sync_ms=1_001),
    "MAP_NEARFULL": with_lease(index_used_bytes=81, index_size_bytes=100),
    "WRITE_QUORUM_LOST": with_map(code=ErasureCode(8, 2)),
    "NODE_NEARFULL": with_lease(level="near"),
    "NODE_FULL": with_lease(level="full"),
    "CLUSTER_FULL": changed(nodes=tuple(msgspec.structs.replace(one, level="full") for one in HEALTHY.nodes)),
    "SHARD_CORRUPT": with_lease(damaged=1, damaged_ms=NOW),
    "SCRUB_LATE": with_lease(scrub=ScrubReport("running", since_ms=1)),
    "SCRUB_PAUSED": changed(
        nodes=tuple(msgspec.structs.replace(one, scrub=ScrubReport("paused")) for one in HEALTHY.nodes)
    ),
    "REPAIR_STALLED": with_survey(repair=BUSY),
    "REPAIR_FAILED": with_survey(repair=RepairProgress("failed", "why")),
    "REPAIR_PAUSED": with_survey(repair=RepairProgress("paused", "why")),
    "NOTIFY_FAILING": with_survey(
        notify=[
            TargetReport("hook", "http://h/", 3, 1, 0, 9, 0, NOW - snapshot.NOTIFY_FAILING_MS - 1, "it answered 500")
        ]
    ),
    "BUCKET_QUOTA": changed(usage=UsageHead(NOW, 9, 9, over=["photos"], over_total=3)),
    "REPAIR_ERRORS": with_survey(repair=RepairProgress("running", failed=3)),
}


def seen_for(code: str) -> Observation:
    if code in MORE:
        return MORE[code]
    return next(seen for seen, _, found in NOT_HEALTHY.values() if found == code)


@pytest.mark.parametrize("code", CODES)
def test_every_code_can_be_produced(code: str) -> None:
    status = build(seen_for(code))
    reason = next(reason for reason in status.reasons if reason.code == code)
    assert reason.severity == CODES[code].severity
    assert reason.text and reason.next
    assert code in render(status)
    if reason.severity == "error":
        assert status.verdict in ("UNAVAILABLE", "AT_RISK", "UNKNOWN", "DEGRADED")
    assert reason.severity == "info" or status.verdict != "HEALTHY"


def test_what_is_only_worth_knowing_leaves_the_cluster_healthy() -> None:
    status = build(MORE["FSYNC_SLOW"])
    assert (codes(status), status.verdict) == (["FSYNC_SLOW"], "HEALTHY")


def test_no_reason_has_a_code_of_its_own() -> None:
    """Every string that looks like a code, anywhere in admin, is one of the table."""
    made = {
        node.args[0].value
        for module in modules()
        if module.name.startswith("objstore.admin")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason" and node.args
        if isinstance(node.args[0], ast.Constant)
    }
    assert made and made <= CODES.keys()


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: str(code.name))
def test_every_code_says_what_to_do(code: Code) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code.name)
    assert len(runbook(code)) > 60
    words = code.next.split()
    assert words[0] != "objstore" or words[1] in COMMANDS


def test_the_runbook_has_a_section_for_each_code_and_no_other() -> None:
    titles = re.findall(r"^## (\S+)$", (FOLDER / "HEALTH.md").read_text(), re.MULTILINE)
    assert titles == list(CODES)


def test_the_readme_lists_the_codes() -> None:
    part = (ROOT / "README.md").read_text().partition("Codes of reasons: ")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z_]+)`", part)) == CODES.keys()


def test_commands_of_local_clusters_are_shown_only_there() -> None:
    seen = changed(seen_for("NODE_DOWN"), local=False)
    assert not any("chaos" in reason.next for reason in build(seen).reasons)
    assert any("chaos" in reason.next for reason in build(seen_for("NODE_DOWN")).reasons)


@pytest.mark.parametrize(
    ("offsets", "wrong"),
    [
        ((0, 0, 0, 0, 9_000), {"n5"}),
        ((9_000, 9_000, 9_000, 9_000, 0), {"n5"}),  # whoever asks is wrong, and so is n5
        ((7_000, 7_000, 7_000), set()),
        ((0, 0, -6_000), {"n3"}),
        ((), set()),
    ],
)
def test_clocks_are_compared_with_each_other(offsets: tuple[int, ...], wrong: set[str]) -> None:
    status = build(with_clocks(*offsets))
    found = [reason.text for reason in status.reasons if reason.code == "CLOCK_SKEW"]
    assert {name for text in found for name in re.findall(r"\bn\d\b", text)} == wrong
    assert [node.clock_skew_s is not None for node in status.nodes[: len(offsets)]] == [True] * len(offsets)


def test_repair_that_gets_something_done_is_not_stalled() -> None:
    for more in (
        {"bytes_per_s": 1.0},
        {"items_per_s": 0.1},
        {"started_ms": NOW - snapshot.STALLED_MS},
        {"state": "waiting"},
        {"done": 5},
    ):
        assert "REPAIR_STALLED" not in codes(build(with_survey(repair=msgspec.structs.replace(BUSY, **more)))), more


def test_a_lease_of_an_older_version_says_nothing_and_is_no_problem() -> None:
    assert NodeLease("x", "n", "z", "a:1", 1, 1, 1, 1, "1").sync_ms == 0

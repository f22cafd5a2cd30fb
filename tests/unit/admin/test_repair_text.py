"""What screens say of repair and rebalance."""

from __future__ import annotations

import io

from rich.console import Console

from objstore.admin import screen, text
from objstore.admin.snapshot import Observation, build
from objstore.cli.watch import new_receipts
from objstore.model.survey import Receipt, RepairProgress, Survey

MIB = 1 << 20
RECEIPTS = [Receipt(0, 65_000, 30_511, 11_400 * MIB, 41), Receipt(70_000, 80_000, 1, 10 * MIB, 1, "rebalance")]


def test_a_receipt_says_what_was_done_how_fast_and_what_it_took() -> None:
    assert text.receipt_line(RECEIPTS[0]).endswith("30,511 objects, 11.1 GiB rebuilt in 1m 5s (175 MiB/s), 41 retries")
    line = text.receipt_line(RECEIPTS[1])
    assert line.startswith("Rebalance finished") and line.endswith("1 object, 10 MiB moved in 10s (1 MiB/s), 1 retry")


def test_no_rate_is_made_of_what_took_no_time() -> None:
    line = text.receipt_line(Receipt(5_000, 5_000, 1, 2 * MIB, 0))
    assert line.endswith("1 object, 2 MiB rebuilt in 0.0s, 0 retries")


def test_a_pause_is_named_once() -> None:
    assert text.repair_line(RepairProgress("paused", "paused by an operator; nothing waits")) == (
        "paused by an operator; nothing waits"
    )
    paused = RepairProgress("paused", "paused by an operator; 3 objects wait", total=3)
    assert text.repair_line(paused) == "paused 0% · 0 of 3 objects · paused by an operator; 3 objects wait"
    status = build(Observation(0, survey=Survey(0, "r1", 1, "4+2", repair=paused)))
    said = [reason.text for reason in status.reasons if reason.code == "REPAIR_PAUSED"]
    assert said == ["repair is paused by an operator; 3 objects wait"]


def test_a_rebalance_is_called_one_and_the_details_name_budget_and_brakes() -> None:
    moving = RepairProgress("running", done=5, total=10, kind="rebalance", bytes_per_s=MIB, eta_s=12.0, misplaced=5)
    assert text.repair_line(moving) == "moving 50% · 5 of 10 objects · 1 MiB/s · ETA 12s"
    held = RepairProgress("throttled", "busy", total=9, budget=5 * MIB, throttle="busy", misplaced=2)
    details = dict(text.repair_details(Survey(0, "r1", 1, "4+2", repair=held)))
    assert details["budget"] == "5 MiB/s at most" and details["held back"] == "busy"
    assert details["moves"] == "2 objects to move home when all is whole"


def test_only_receipts_that_came_since_are_printed() -> None:
    status = build(Observation(0, survey=Survey(0, "r1", 1, "4+2", receipts=RECEIPTS)))
    assert new_receipts(None, status) == []
    assert new_receipts(RECEIPTS[:1], status) == RECEIPTS[1:]
    assert new_receipts([], status) == RECEIPTS


def test_the_screen_shows_the_budget_and_what_is_still_to_be_moved() -> None:
    from objstore.model.cluster import ClusterMap, ErasureCode, GatewayLease, Layout, View

    repair = RepairProgress("running", done=5, total=10, bytes_done=MIB, bytes_total=2 * MIB, misplaced=3)
    survey = Survey(0, "r1", 1, "4+2", repair=repair)
    cluster_map = ClusterMap("c" * 32, ErasureCode(4, 2), 1, "zfec", (), View(1, Layout((), (), ())))
    console = Console(file=io.StringIO(), width=88)
    r1 = GatewayLease("r", "r1", "", 0, "1")
    seen = Observation(0, cluster_map=cluster_map, survey=survey, repairers=(r1,), leader="r")
    console.print(screen.render(build(seen)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 MiB of 2 MiB · budget auto" in shown and "3 objects to move home when all is whole" in shown

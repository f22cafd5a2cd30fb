"""The verdict is never better than the truth."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from rich.console import Console

from objstore.admin import screen, text
from objstore.admin.snapshot import VIEW_FRESH_MS, VIEW_LOST_MS, Observation, Probe, build
from objstore.admin.status import Status, to_json
from objstore.model.cluster import ClusterMap, ErasureCode, GatewayLease, Layout, Node, NodeLease, View
from objstore.model.ids import NodeId
from objstore.model.survey import NodeHoldings, ObjectCounts, RepairProgress, Survey

NOW = 1_700_000_000_000
IDS = tuple(NodeId(f"{i:016x}") for i in range(1, 9))
LAYOUT = Layout(IDS, ((0, 1, 2, 3, 4, 5),) * 2, ((0, 1, 2, 3, 4),) * 2)


def lease(index: int) -> NodeLease:
    return NodeLease(
        IDS[index], f"n{index + 1}", f"z{index}", f"host:{7000 + index}", 1000, 100, 900, NOW - 60_000, "1"
    )


WHOLE = Survey(
    as_of_ms=NOW - 500,
    leader="r1",
    epoch=1,
    code="4+2",
    objects=ObjectCounts(total=10, full=10),
    can_lose=2,
    redundancy=[0, 0, 0, 0, 0, 0, 10],
    nodes={node: NodeHoldings(5, 0) for node in IDS},
)
HEALTHY = Observation(
    at_ms=NOW,
    cluster_map=ClusterMap(
        "c" * 32,
        ErasureCode(4, 2),
        1,
        "zfec",
        tuple(Node(node, f"n{i + 1}", f"z{i}", 1000) for i, node in enumerate(IDS)),
        View(1, LAYOUT),
    ),
    nodes=tuple(lease(i) for i in range(8)),
    gateways=(GatewayLease("g", "g1", "host:9000", NOW - 60_000, "1"),),
    repairers=(GatewayLease("r", "r1", "", NOW - 60_000, "1"),),
    leader="r",
    survey=WHOLE,
    probes={**{f"host:{7000 + i}": "answers" for i in range(8)}, "host:9000": "answers"},
    local=True,
)


def changed(seen: Observation = HEALTHY, **fields: object) -> Observation:
    return msgspec.structs.replace(seen, **fields)


def with_probe(probe: Probe, *indexes: int) -> Observation:
    return changed(probes={**HEALTHY.probes, **{f"host:{7000 + i}": probe for i in indexes}})


def with_survey(**fields: object) -> Observation:
    return changed(survey=msgspec.structs.replace(WHOLE, **fields))


def with_map(**fields: object) -> Observation:
    assert HEALTHY.cluster_map
    return changed(cluster_map=msgspec.structs.replace(HEALTHY.cluster_map, **fields))


def new_nodes() -> tuple[NodeLease, ...]:
    return tuple(msgspec.structs.replace(one, used_bytes=0) for one in HEALTHY.nodes)


def without_index(count: int) -> Observation:
    """So many nodes are back under their names with new ids, and with the journals of before."""
    back = [msgspec.structs.replace(one, id=NodeId(f"new{i}"), lost=True) for i, one in enumerate(HEALTHY.nodes)]
    return changed(nodes=(*back[:count], *HEALTHY.nodes[count:]))


def codes(status: Status) -> list[str]:
    return [reason.code for reason in status.reasons]


def test_all_up_fresh_and_full_is_healthy() -> None:
    status = build(HEALTHY)
    assert (status.verdict, status.can_lose, status.reasons, status.leader) == ("HEALTHY", 2, [], "r1")
    assert status.is_whole
    assert [node.name for node in status.nodes] == [f"n{i}" for i in range(1, 9)]


NOT_HEALTHY: dict[str, tuple[Observation, str, str]] = {
    "a dead node with a lease": (with_probe("refused", 2), "DEGRADED", "NODE_DOWN"),
    "a hanging node": (with_probe("silent", 2), "DEGRADED", "NODE_LATE"),
    "a node without a lease": (changed(nodes=HEALTHY.nodes[1:]), "DEGRADED", "NODE_DOWN"),
    "a node given up": (with_map(current=View(1, LAYOUT, (IDS[0],))), "DEGRADED", "NODE_OUT"),
    "two dead nodes": (with_probe("refused", 0, 1), "AT_RISK", "NODE_DOWN"),
    "three dead nodes": (with_probe("refused", 0, 1, 2), "UNAVAILABLE", "QUORUM_LOST"),
    "no gateway": (changed(gateways=()), "UNAVAILABLE", "GATEWAY_DOWN"),
    "a dead gateway": (changed(probes={**HEALTHY.probes, "host:9000": "refused"}), "UNAVAILABLE", "GATEWAY_DOWN"),
    "no coordinator": (Observation(NOW, coordinator_error="refused"), "UNKNOWN", "COORDINATOR_DOWN"),
    "no map yet": (changed(cluster_map=None, nodes=new_nodes()), "UNKNOWN", "CLUSTER_FORMING"),
    "no map any more": (changed(cluster_map=None), "UNAVAILABLE", "METADATA_LOST"),
    "three nodes without their index": (without_index(3), "UNAVAILABLE", "METADATA_LOST"),
    "two nodes without their index": (without_index(2), "AT_RISK", "NODE_DOWN"),
    "an interrupted recovery": (with_map(recovering=9), "UNAVAILABLE", "RECOVERY_UNFINISHED"),
    "no survey yet": (changed(survey=None), "UNKNOWN", "VIEW_STALE"),
    "an old survey": (with_survey(as_of_ms=NOW - VIEW_FRESH_MS - 1), "DEGRADED", "VIEW_STALE"),
    "a very old survey": (with_survey(as_of_ms=NOW - VIEW_LOST_MS - 1), "UNKNOWN", "VIEW_STALE"),
    "a survey of another layout": (with_survey(epoch=0), "DEGRADED", "VIEW_STALE"),
    "a survey from before a node started": (
        changed(nodes=(*HEALTHY.nodes[1:], msgspec.structs.replace(lease(0), started_ms=NOW - 100))),
        "DEGRADED",
        "VIEW_STALE",
    ),
    "no repairer in charge": (changed(leader=""), "DEGRADED", "REPAIRER_DOWN"),
    "a missing shard": (
        with_survey(objects=ObjectCounts(10, 9, 1), can_lose=1, redundancy=[0, 0, 0, 0, 0, 1, 9]),
        "DEGRADED",
        "REDUNDANCY_LOW",
    ),
    "no margin": (with_survey(objects=ObjectCounts(10, 9, 0, 1), can_lose=0), "AT_RISK", "REDUNDANCY_LOW"),
    "an unreadable object": (with_survey(objects=ObjectCounts(10, 9, 0, 0, 1)), "AT_RISK", "OBJECT_UNREADABLE"),
    "blocked repair": (with_survey(repair=RepairProgress("blocked", "too few nodes")), "DEGRADED", "REPAIR_BLOCKED"),
    "metadata on the move": (with_map(next=View(2, LAYOUT), synced=b"\x01"), "DEGRADED", "METADATA_SYNC"),
    "a full node": (
        changed(nodes=(*HEALTHY.nodes[1:], msgspec.structs.replace(lease(0), level="full"))),
        "DEGRADED",
        "NODE_FULL",
    ),
    "mixed versions": (
        changed(nodes=(*HEALTHY.nodes[1:], msgspec.structs.replace(lease(0), version="2"))),
        "DEGRADED",
        "VERSION_MIXED",
    ),
}


@pytest.mark.parametrize("name", NOT_HEALTHY)
def test_what_is_not_well_is_said(name: str) -> None:
    seen, verdict, code = NOT_HEALTHY[name]
    status = build(seen)
    assert status.verdict == verdict, status.reasons
    assert code in codes(status)


def test_every_step_of_a_recovery_names_the_next_one() -> None:
    lost = build(without_index(8))
    assert [reason.next for reason in lost.reasons if reason.code == "METADATA_LOST"] == ["objstore recover"]
    assert "QUORUM_LOST" not in codes(lost) and "chaos" not in " ".join(r.next for r in lost.reasons)
    begun = build(with_map(recovering=9))
    assert [r.next for r in begun.reasons if r.code == "RECOVERY_UNFINISHED"] == ["objstore recover --yes"]


def test_a_node_that_died_a_moment_ago_lowers_what_may_be_lost_though_the_survey_does_not_know_it() -> None:
    assert build(with_probe("refused", 2)).can_lose == 1
    assert build(with_probe("refused", 2, 3)).can_lose == 0


AT_WORK = RepairProgress(
    "running", done=3, total=10, bytes_per_s=2e7, items_per_s=40.0, eta_s=5.0, started_ms=NOW - 9_000
)
OTHER = GatewayLease("q", "r2", "", NOW - 60_000, "1")
SUCCESSIONS = {
    "it leads": (with_survey(repair=AT_WORK), AT_WORK),
    "nobody yet": (
        changed(with_survey(repair=AT_WORK), leader="", repairers=(OTHER,)),
        "r1, which was at work, is gone; another repairer takes over",
    ),
    "nobody ever": (
        changed(with_survey(repair=AT_WORK), leader="", repairers=()),
        "r1, which was at work, is gone; no repairer runs",
    ),
    "another": (
        changed(with_survey(repair=AT_WORK), leader="q", repairers=(OTHER,)),
        "r2 has taken over, and looks at the data first",
    ),
    "its next life": (
        changed(with_survey(repair=AT_WORK), repairers=(GatewayLease("r", "r1", "", NOW - 100, "1"),)),
        "r1 has taken over, and looks at the data first",
    ),
    "paused": (
        changed(with_survey(repair=RepairProgress("paused", "by an operator")), leader="", repairers=(OTHER,)),
        RepairProgress("paused", "by an operator"),
    ),
}


@pytest.mark.parametrize("name", SUCCESSIONS)
def test_the_rate_and_the_eta_of_a_repairer_that_is_gone_are_not_shown(name: str) -> None:
    seen, expected = SUCCESSIONS[name]
    shown = build(seen).repair
    if isinstance(expected, str):
        gone = {"bytes_per_s": 0.0, "items_per_s": 0.0, "eta_s": None}
        expected = msgspec.structs.replace(AT_WORK, state="waiting", reason=expected, **gone)
    assert shown == expected


def test_a_node_given_up_and_rebuilt_leaves_the_full_margin() -> None:
    status = build(with_map(current=View(1, LAYOUT, (IDS[0],))))
    assert status.can_lose == 2
    assert status.is_whole and status.verdict == "DEGRADED"


def test_a_live_node_outside_the_map_is_a_spare_and_no_reason_to_worry() -> None:
    spare = msgspec.structs.replace(lease(0), id=NodeId("f" * 16), name="n9", address="host:7999")
    seen = changed(nodes=(*HEALTHY.nodes, spare), probes={**HEALTHY.probes, "host:7999": "answers"})
    status = build(seen)
    assert status.node("n9") is not None and status.nodes[-1].state == "spare"
    assert status.verdict == "HEALTHY"


def test_a_node_that_came_back_empty_is_a_spare_behind_the_lost_one_of_its_name() -> None:
    reborn = msgspec.structs.replace(lease(0), id=NodeId("0" * 16), address="host:7999")
    seen = changed(
        with_map(current=View(1, LAYOUT, (IDS[0],))),
        nodes=(reborn, *HEALTHY.nodes[1:]),
        probes={**HEALTHY.probes, "host:7999": "answers"},
    )
    status = build(seen)
    assert [(node.name, node.state) for node in status.nodes[:2]] == [("n1", "out"), ("n1", "spare")]
    assert status.node("n1") is status.nodes[0]
    assert [(reason.code, reason.next) for reason in status.reasons] == [("NODE_OUT", "objstore node list")]


def test_nodes_are_in_the_order_of_their_numbers() -> None:
    ten = msgspec.structs.replace(lease(0), id=NodeId("e" * 16), name="n10")
    assert [node.name for node in build(changed(nodes=(ten, *HEALTHY.nodes))).nodes][-2:] == ["n8", "n10"]


def test_commands_for_local_clusters_are_not_shown_for_others() -> None:
    assert any("chaos" in reason.next for reason in build(with_probe("refused", 2)).reasons)
    assert not any("chaos" in reason.next for reason in build(changed(with_probe("refused", 2), local=False)).reasons)


@pytest.mark.parametrize("name", NOT_HEALTHY)
def test_every_screen_shows_verdict_and_reasons(name: str) -> None:
    status = build(NOT_HEALTHY[name][0])
    console = Console(width=88, file=None, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(screen.render(status, baseline=build(HEALTHY)))
    shown = [text.render(status), capture.get(), to_json(status).decode().replace("_", " ")]
    for one in shown:
        assert text.title(status) in one
    for code in codes(status)[:4]:
        assert code in shown[0] and code in shown[1]
    assert msgspec.json.decode(to_json(status), type=Status) == status


@pytest.mark.parametrize("width", [40, 60, 71, 88, 200])
def test_the_screen_fits_its_width(width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(screen.render(build(NOT_HEALTHY["a missing shard"][0]), width=width))
    assert max(len(line) for line in capture.get().splitlines()) <= width


def test_brackets_in_a_reason_are_text_and_not_markup() -> None:
    status = build(with_survey(repair=RepairProgress("blocked", "object [red]x[/red]")))
    console = Console(width=88)
    with console.capture() as capture:
        console.print(screen.render(status))
    assert "[red]x[/red]" in capture.get()


BARS: list[tuple[float, float, Callable[[str], bool]]] = [
    (0, 10, lambda bar: "█" not in bar),
    (1, 10_000, lambda bar: bar.count("█") == 1),
    (9_999, 10_000, lambda bar: bar.count("░") == 1),
    (10, 10, lambda bar: "░" not in bar),
    (0, 0, lambda bar: "█" not in bar),
]


@pytest.mark.parametrize(("part", "whole", "right"), BARS)
def test_a_bar_is_empty_only_at_nothing_and_full_only_at_all(
    part: float, whole: float, right: Callable[[str], bool]
) -> None:
    bar = screen.bar(part, whole, 20)
    assert len(bar) == 20 and right(bar)


def test_a_coordinator_that_is_away_freezes_the_topology_and_status_says_since_when() -> None:
    (reason,) = build(Observation(NOW, coordinator_error="refused", away_ms=12_400)).reasons
    assert "Reads and writes go on; the topology is frozen since 12" in reason.text
    (reason,) = build(Observation(NOW, coordinator_error="refused")).reasons
    assert "the topology is frozen: membership" in reason.text, "no node could be asked"


def test_what_goes_on_when_only_writes_fail_is_said() -> None:
    full = changed(nodes=tuple(msgspec.structs.replace(one, level="full") for one in HEALTHY.nodes))
    status = build(full)
    assert status.verdict == "UNAVAILABLE" and status.summary.endswith("reads go on, writes fail")
    deaf = build(msgspec.structs.replace(full, gateways=()))
    assert deaf.summary.endswith("not serving"), "no gateway: nothing goes on"


def test_how_full_a_node_is_stands_beside_what_it_uses() -> None:
    lines = text.render(build(HEALTHY)).splitlines()
    row = next(line for line in lines if line.split()[:1] == ["n1"])
    assert "100 B" in row and row.split("100 B")[1].split()[0] == "10%"

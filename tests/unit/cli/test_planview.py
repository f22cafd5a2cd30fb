"""What `objstore plan`, `node list` and `damage list` make of what they found: words and numbers."""

from __future__ import annotations

import msgspec
import pytest

from objstore.cli.damage import _headline
from objstore.cli.follow import _emptied, _end
from objstore.cli.nodelist import describe_nodes, list_nodes
from objstore.cli.planview import rate_of
from objstore.cluster.topology import Outlook
from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, NodeLease, View
from objstore.model.ids import NodeId
from objstore.model.survey import Receipt, RepairProgress, Survey

MIB = 1 << 20
IDS = tuple(NodeId(f"{i:016x}") for i in range(1, 7))
MAP = ClusterMap(
    "c" * 32,
    ErasureCode(4, 2),
    1,
    "zfec",
    tuple(Node(node, f"n{i + 1}", "z", 1000) for i, node in enumerate(IDS)),
    View(1, Layout(IDS, ((0, 1, 2, 3, 4, 5),) * 2, ((0, 1, 2, 3, 4),) * 2)),
)


def surveyed(*receipts: Receipt, bytes_per_s: float = 0.0) -> Survey:
    repair = RepairProgress("running" if bytes_per_s else "idle", bytes_per_s=bytes_per_s)
    return Survey(0, "r1", 1, "4+2", receipts=list(receipts), receipt=receipts[-1] if receipts else None, repair=repair)


def test_the_time_of_a_plan_comes_from_the_largest_receipt_and_not_from_one_that_mostly_waited() -> None:
    large = Receipt(0, 10_000, 900, 300 * MIB, 0)
    waited = Receipt(0, 60_000, 7, 2 * MIB, 0, "rebalance")
    rate = rate_of(surveyed(large, waited), None)
    assert rate is not None and rate.bytes_per_s == 30 * MIB and rate.source == "as measured in a recent repair"
    rate = rate_of(surveyed(msgspec.structs.replace(waited, worked_s=0.5)), None)
    assert rate is not None and rate.bytes_per_s == 4 * MIB, "of a minute it worked half a second"


def test_what_is_measured_now_counts_most_and_what_says_nothing_is_left_out() -> None:
    now = rate_of(surveyed(Receipt(0, 1000, 1, 9 * MIB, 0), bytes_per_s=5.0), None)
    assert now is not None and now.bytes_per_s == 5.0
    assert rate_of(surveyed(Receipt(0, 1000, 1, MIB - 1, 0)), None) is None, "too little"
    assert rate_of(surveyed(Receipt(7, 7, 1, 9 * MIB, 0)), None) is None, "no time"
    configured = rate_of(surveyed(), 7 * MIB)
    assert configured is not None and configured.source == "as configured"


@pytest.mark.parametrize(("size", "is_said"), [(1000, False), (1040, False), (2000, True), (500, True)])
def test_a_node_whose_capacity_is_not_the_one_of_its_share_is_named_with_what_to_do(size: int, is_said: bool) -> None:
    lease = NodeLease(IDS[0], "n1", "z", "h:1", size, 100, 900, 0, "1")
    seen = Outlook(MAP, {IDS[0]: lease}, None, 1, 0, None)
    rows = list_nodes(seen, IDS)
    assert rows[0].capacity_bytes == size and rows[0].weight_bytes == 1000
    assert any(f"objstore node resize n1 {size}" in line for line in describe_nodes(rows)) is is_said


def test_disks_that_have_grown_alike_need_no_other_shares() -> None:
    leases = {node: NodeLease(node, "n", "z", "h:1", 3000, 100, 900, 0, "1") for node in IDS}
    leases[IDS[5]] = msgspec.structs.replace(leases[IDS[5]], capacity_bytes=6000)
    lines = describe_nodes(list_nodes(Outlook(MAP, leases, None, 1, 0, None), IDS))
    assert [line for line in lines if "resize" in line] == [
        "n6 has the share of a node with 2.9 KiB, and not with 5.9 KiB: objstore node resize n6 2000"
    ]


def test_of_a_spare_no_weight_is_said() -> None:
    spare = NodeLease(NodeId("f" * 16), "n9", "z", "h:9", 5, 0, 5, 0, "1")
    rows = list_nodes(Outlook(MAP, {spare.id: spare}, None, 1, 0, None), [spare.id])
    assert [row.weight_bytes for row in rows if row.state == "spare"] == [None]
    assert not any("resize" in line for line in describe_nodes(rows))


def test_what_a_drained_node_holds_is_not_called_nothing_before_that_is_known() -> None:
    assert _emptied("n2", 1).endswith("1 fragment left") and "-1" not in _emptied("n2", -1)
    assert "not known yet" in _end((("n2", -1),))[1]
    assert "3 fragments of writes that never ended" in _end((("n2", 3),))[1]


@pytest.mark.parametrize(
    ("total", "listed", "said"),
    [
        (1, 1, "1 object is hurt, or not where it belongs"),
        (3, 3, "3 objects are hurt, or not where they belong"),
        (6260, 500, "6,260 objects are hurt, or not where they belong; the 500 worst are listed"),
    ],
)
def test_how_many_objects_are_hurt(total: int, listed: int, said: str) -> None:
    assert _headline(total, listed) == said


def test_a_row_of_a_node_is_json() -> None:
    rows = list_nodes(Outlook(MAP, {}, None, 1, 0, None), [])
    assert msgspec.json.decode(msgspec.json.encode(rows))[0]["weight_bytes"] == 1000

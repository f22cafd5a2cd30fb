"""The first map: when there can be one, whom it has, and who is left over."""

from __future__ import annotations

import msgspec
import pytest

from objstore.cluster.bootstrap import FIRST_EPOCH, first_map, reason_to_wait, spares
from objstore.model.cluster import ClusterMap, ErasureCode, NodeLease
from objstore.model.errors import InvalidRequest
from objstore.model.ids import NodeId

CODE = ErasureCode(2, 1)  # needs 3 nodes


def lease(number: int, name: str = "") -> NodeLease:
    return NodeLease(NodeId(f"{number:016x}"), name or f"n{number}", f"z{number}", "h:1", 1000 + number, 0, 1, 1, "0")


def make(leases: list[NodeLease], initial_nodes: int = 0) -> ClusterMap | None:
    return first_map(
        leases, cluster_id="ab" * 16, code=CODE, partition_bits=4, codec="zfec", initial_nodes=initial_nodes
    )


def test_there_is_no_map_before_enough_nodes_have_registered() -> None:
    assert make([lease(1), lease(2)]) is None
    assert reason_to_wait([lease(2), lease(1)], CODE, 0) == "2 of 3 nodes have registered: n1 n2"
    assert reason_to_wait([], CODE, 4) == "0 of 4 nodes have registered: none"


def test_the_map_waits_for_the_number_of_nodes_that_was_asked_for() -> None:
    leases = [lease(i) for i in range(1, 5)]
    assert make(leases, initial_nodes=5) is None
    assert make(leases, initial_nodes=4) is not None


def test_the_first_map_has_every_registered_node_with_its_weight_and_zone() -> None:
    found = make([lease(3), lease(1), lease(4), lease(2)])
    assert found is not None
    assert [(node.name, node.zone, node.capacity_bytes) for node in found.nodes] == [
        (f"n{i}", f"z{i}", 1000 + i) for i in range(1, 5)
    ]
    assert (found.cluster_id, found.code, found.partition_bits, found.codec) == ("ab" * 16, CODE, 4, "zfec")
    assert found.current.epoch == FIRST_EPOCH and found.current.out == () and found.next is None
    layout = found.current.layout
    assert sorted(layout.nodes) == [node.id for node in found.nodes]
    assert {len(set(row)) for row in layout.data} == {3} and len(layout.data) == 16


def test_the_map_does_not_depend_on_the_order_in_which_nodes_came() -> None:
    leases = [lease(i) for i in range(1, 6)]
    assert make(leases) == make(leases[::-1])


def test_two_nodes_of_one_name_hold_the_map_up_and_are_named() -> None:
    leases = [lease(1), lease(2), lease(3), lease(4, "n2")]
    assert make(leases) is None
    assert "more than one node is called n2" in reason_to_wait(leases, CODE, 0)


@pytest.mark.parametrize("trace", [{"lost": True}, {"written": True}, {"used_bytes": 1}])
def test_no_first_map_is_made_of_nodes_that_hold_data_of_a_former_one(trace: dict[str, object]) -> None:
    """INV-13."""
    leases = [lease(1), msgspec.structs.replace(lease(2), **trace), lease(3)]
    assert make(leases) is None
    assert reason_to_wait(leases, CODE, 0).endswith("n2 hold data of this cluster: run: objstore recover")


def test_fewer_nodes_than_the_code_needs_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match=r"initial_nodes is 2, but code 2\+1 needs at least 3"):
        make([lease(1), lease(2)], initial_nodes=2)


def test_nodes_outside_the_map_are_spares() -> None:
    found = make([lease(1), lease(2), lease(3)])
    assert [spare.name for spare in spares(found, [lease(5), lease(1), lease(4)])] == ["n4", "n5"]
    assert spares(found, [lease(1)]) == []
    assert [spare.name for spare in spares(None, [lease(2), lease(1)])] == ["n1", "n2"]

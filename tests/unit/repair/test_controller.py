"""Who is out, and what is done about the map: tables."""

from __future__ import annotations

import msgspec
import pytest

from objstore.cluster.detector import Health, Status
from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, NodeLease, View
from objstore.model.ids import NodeId
from objstore.repair.controller import (
    Begin,
    Continue,
    MakeMap,
    Nothing,
    Replace,
    decide,
    more_out_soon,
    waiting_for,
    wanted_out,
)


def a_map(names: str = "ABCDEFGH", out: str = "", *, joint: bool = False) -> ClusterMap:
    nodes = tuple(Node(NodeId(name), name, "z", 1) for name in names)
    layout = Layout(tuple(node.id for node in nodes), (), ())
    view = View(3, layout, tuple(NodeId(name) for name in out))
    return ClusterMap("c" * 32, ErasureCode(4, 2), 4, "zfec", nodes, view, View(4, layout) if joint else None)


def health(**states: str) -> dict[NodeId, Health]:
    """Everybody else is up."""
    found = {NodeId(name): Health(Status.UP, 9.0, 0.0) for name in "ABCDEFGH"}
    for name, status in states.items():
        found[NodeId(name)] = Health(Status(status), 1.0, 7.0)
    return found


@pytest.mark.parametrize(
    ("before", "states", "after"),
    [
        ("", {}, ""),
        ("", {"A": "late"}, ""),
        ("", {"A": "down"}, ""),
        ("", {"A": "out"}, "A"),
        ("A", {"A": "out"}, "A"),
        ("A", {"A": "down"}, "A"),
        ("A", {"A": "late"}, "A"),
        ("A", {}, ""),
        ("A", {"B": "out"}, "B"),
        ("", {"C": "out", "A": "out", "B": "out"}, "ABC"),
        ("", {"A": "out", "B": "out", "C": "out", "D": "out"}, "ABC"),  # somebody must be left to stand in
        ("BCD", {"A": "out", "B": "out", "C": "out", "D": "out"}, "BCD"),  # and those already out stay out
    ],
)
def test_who_should_be_out(before: str, states: dict[str, str], after: str) -> None:
    assert wanted_out(a_map(out=before), health(**states)) == tuple(NodeId(name) for name in after)


def test_with_six_nodes_one_may_be_out_for_the_sake_of_metadata() -> None:
    states = health(A="out", B="out")
    assert wanted_out(a_map("ABCDEF"), states) == (NodeId("A"),)


def test_decisions() -> None:
    assert decide(None, {}) == MakeMap()
    assert decide(a_map(), health()) == Nothing()
    assert decide(a_map(), health(A="out")) == Begin((NodeId("A"),))
    assert decide(a_map(out="A"), health()) == Begin(())
    assert decide(a_map(joint=True), health(A="out")) == Continue(), "a transition is finished first"
    assert decide(a_map(out="A"), {}) == Nothing(), "nobody has been judged yet"


def test_a_silent_member_is_waited_for_until_it_is_given_up() -> None:
    a, b = NodeId("A"), NodeId("B")
    assert waiting_for(a_map(), health(A="down"), {a: 3.0}, 10.0) == {a: 3.0}
    assert waiting_for(a_map(), health(A="out"), {a: 3.0}, 10.0) == {}
    assert waiting_for(a_map(), health(A="down"), {}, 10.0) == {}, "it answers again"
    assert waiting_for(a_map(), health(), {b: 4.0}, 10.0) == {b: 6.0}, "it has its lease, but does not answer"
    assert waiting_for(a_map(), health(), {b: 11.0}, 10.0) == {}
    assert waiting_for(a_map(), {}, {b: 1.0}, 10.0) == {b: 9.0}, "a new leader has judged nobody yet"


def lease(id: str, name: str) -> NodeLease:
    return NodeLease(NodeId(id), name, "z", "127.0.0.1:1", 1, 0, 1, 0, "1")


def test_node_back_under_its_name_replaces_the_member_that_is_out() -> None:
    name = a_map().nodes[0].name
    newcomer = lease("new", name)
    assert decide(a_map(out="A"), health(A="out"), [newcomer]) == Replace(NodeId("A"), newcomer)
    assert decide(a_map(), health(A="down"), [newcomer]) == Nothing(), "the old one may come back yet"
    assert decide(a_map(), health(), [newcomer]) == Nothing(), "two live nodes of one name are a mistake"
    assert decide(a_map(out="A"), health(A="out"), [lease("new", "another")]) == Nothing()


def test_a_map_under_recovery_is_left_alone() -> None:
    for joint in (False, True):
        under = msgspec.structs.replace(a_map(joint=joint), recovering=9)
        assert decide(under, health(A="out", B="up")) == Nothing()


@pytest.mark.parametrize(
    ("absent_s", "status", "soon"),
    [
        (9.0, "down", True),
        (10.0, "down", True),
        (7.0, "down", False),  # the first does not wait so long for the second
        (12.0, "down", False),  # it comes and goes: a node that restarts for ever must not hold up the others
        (9.0, "late", False),
        (9.0, "out", False),
    ],
)
def test_nodes_that_fail_together_go_out_together(absent_s: float, status: str, *, soon: bool) -> None:
    states = {**health(A="out"), NodeId("B"): Health(Status(status), 1.0, absent_s)}
    assert more_out_soon(states, (NodeId("A"),), 10.0) is soon
    assert not more_out_soon(states, (NodeId("A"), NodeId("B")), 10.0)

"""What is planned for one segment, and in which order segments come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.engine.types import Moved, Placed, Trimmed
from objstore.model.ids import NodeId
from objstore.repair.planner import Agenda, SegmentPlan, SegmentView, plan_segment

HOME = "ABCDEF"  # shard i belongs on the i-th letter
HANDOFF = "GHIJ"


def ids(letters: str) -> list[NodeId]:
    return [NodeId(letter) for letter in letters]


def plan(
    holders: dict[int, str],
    *,
    live: str = "ABCDEFGHIJ",
    late: str = "",
    held: dict[int, str] | None = None,
    out: str = "",
    full: str = "",
    closed: str = "",
) -> SegmentPlan:
    held_by = {shard: ids(nodes) for shard, nodes in holders.items()}
    last_seen = {shard: NodeId(node) for shard, node in (held or {}).items()}
    view = SegmentView(4, ids(HOME), held_by, ids(live), ids(late), last_seen, ids(out), ids(full), ids(closed))
    return plan_segment(view, lambda: ids(HANDOFF))


def at_home(*missing: int) -> dict[int, str]:
    return {shard: HOME[shard] for shard in range(6) if shard not in missing}


CASES = {
    "home is full, but takes what is rebuilt": (plan(at_home(2), full="C"), SegmentPlan((Placed(2, NodeId("C")),))),
    "home takes nothing more: elsewhere": (
        plan(at_home(2), full="CG", closed="CG"),
        SegmentPlan((Placed(2, NodeId("H")),)),
    ),
    "nobody takes anything: blocked for lack of room": (
        plan(at_home(2, 3), full="CDGHIJ", closed="CDGHIJ"),
        SegmentPlan(blocked=2, no_room=2),
    ),
    "one missing shard takes the place that another one's full home leaves": (
        plan(at_home(2, 3), live=HOME, full="C", closed="C"),
        SegmentPlan((Placed(3, NodeId("D")),), blocked=1, no_room=1),
    ),
    "whole, but away from a full home: waits": (
        plan(at_home(2) | {2: "G"}, full="C"),
        SegmentPlan(no_room=1),
    ),
    "away from a home that has room: moves, whoever else is full": (
        plan(at_home(2) | {2: "G"}, full="DGH", closed="DGH"),
        SegmentPlan(move=(Moved(2, NodeId("G"), NodeId("C")),)),
    ),
    "all at home: nothing": (plan(at_home()), SegmentPlan()),
    "one missing, home lives: rebuilt at home": (plan(at_home(2)), SegmentPlan((Placed(2, NodeId("C")),))),
    "home dead and given up: on the first live handoff": (
        plan(at_home(2), live="ABDEFHI"),
        SegmentPlan((Placed(2, NodeId("H")),)),
    ),
    "on a silent home: waits": (plan(at_home(2), live="ABDEFGH", held={2: "C"}), SegmentPlan(waiting=1)),
    "home silent and without the shard: nothing to wait for": (
        plan(at_home(2), live="ABDEFGH", late="C"),
        SegmentPlan((Placed(2, NodeId("G")),)),
    ),
    "last seen on a silent handoff: waits": (
        plan(at_home(2), live="ABCDEFH", held={2: "G"}),
        SegmentPlan(waiting=1),
    ),
    "nothing more may be lost: does not wait": (
        plan(at_home(1, 2), live="ADEFGH", held={1: "B", 2: "C"}),
        SegmentPlan((Placed(1, NodeId("G")), Placed(2, NodeId("H")))),
    ),
    "nothing more may be lost, but the nodes have only just gone silent: waits": (
        plan(at_home(1, 2), live="ADEFGH", late="BC", held={1: "B", 2: "C"}),
        SegmentPlan(waiting=2),
    ),
    "no node left: blocked": (plan(at_home(2), live="ABDEF"), SegmentPlan(blocked=1)),
    "home is held by a copy too many of another: waits for the moves that make it one": (
        plan({0: "A", 1: "J", 2: "BDF", 3: "EG", 4: "CHI"}),
        SegmentPlan(
            (),
            tuple(
                Moved(shard, NodeId(a), NodeId(b))
                for shard, a, b in ((1, "J", "B"), (2, "B", "C"), (3, "E", "D"), (4, "C", "E"))
            ),
        ),
    ),
    "a stand-in does not take the home of another missing shard": (
        plan(at_home(0, 2), live="ABDEFG"),
        SegmentPlan((Placed(0, NodeId("A")), Placed(2, NodeId("G")))),
    ),
    "on a handoff, home back: moved home": (
        plan({**at_home(2), 2: "G"}),
        SegmentPlan((), (Moved(2, NodeId("G"), NodeId("C")),)),
    ),
    "on a handoff, home dead: stays": (plan({**at_home(2), 2: "G"}, live="ABDEFG"), SegmentPlan()),
    "at home and elsewhere: trimmed": (
        plan({**at_home(), 2: "CG"}),
        SegmentPlan((), (), (Trimmed(2, NodeId("C"), NodeId("G")),)),
    ),
    "extra copy on a node that is about to be an owner again: kept": (
        plan({**at_home(), 2: "CG"}, out="G"),
        SegmentPlan(),
    ),
    "two shards on one node, one copied home: the extra goes only once the other has left too": (
        plan({**at_home(1), 0: "AB", 1: "A"}),
        SegmentPlan((), (Moved(1, NodeId("A"), NodeId("B")),)),
    ),
    "home taken by a shard that moves: waits for the place": (
        plan({**at_home(1, 2), 1: "C"}),
        SegmentPlan((), (Moved(1, NodeId("C"), NodeId("B")),)),
    ),
    "fewer than k readable: nothing can be rebuilt": (plan(at_home(0, 1, 2)), SegmentPlan(hopeless=True)),
    "fewer than k readable, one on a silent node": (
        plan(at_home(0, 1, 2), live="ACDEFG", held={1: "B"}),
        SegmentPlan(waiting=1, hopeless=True),
    ),
}


@pytest.mark.parametrize(("found", "expected"), CASES.values(), ids=CASES.keys())
def test_plans(found: SegmentPlan, expected: SegmentPlan) -> None:
    assert found == expected


@given(st.dictionaries(st.integers(0, 5), st.sets(st.sampled_from("ABCDEFGHIJ"), min_size=1, max_size=3)), st.data())
def test_following_plans_ends_with_every_shard_once_and_no_node_twice(
    holders: dict[int, set[str]], data: st.DataObject
) -> None:
    """Whatever the start, with all nodes up and k shards readable; and no step ever lowers what is readable."""
    holdings = {shard: sorted(nodes) for shard, nodes in holders.items()}
    if len(holdings) < 4:
        return
    for _ in range(30):
        step = plan({shard: "".join(nodes) for shard, nodes in holdings.items()})
        assert not step.blocked and not step.waiting
        if not step.has_work:
            break
        readable = len(holdings)
        actions = [*step.rebuild, *step.move, *step.trim]
        done = data.draw(st.permutations(actions))[: data.draw(st.integers(1, len(actions)))]
        if any(isinstance(action, Trimmed) for action in done):
            done = [action for action in done if isinstance(action, Trimmed)][:1]
        for action in done:
            if isinstance(action, Trimmed):
                holdings[action.shard].remove(action.extra)
            else:
                holdings.setdefault(action.shard, []).append(action.target)
        assert len(holdings) >= readable
    assert holdings == {shard: [HOME[shard]] for shard in range(6)}


def segment(age: int, number: int = 0) -> bytes:
    return age.to_bytes(6, "big") + bytes(10) + number.to_bytes(4, "big")


def test_most_endangered_first_then_the_oldest() -> None:
    agenda = Agenda()
    for name, readable in ((segment(30), 5), (segment(20), 4), (segment(10), 5), (segment(40), 4)):
        agenda.push(name, readable)
    assert [agenda.pop() for _ in range(5)] == [segment(20), segment(40), segment(10), segment(30), None]


def test_a_segment_that_got_worse_moves_up_and_one_that_healed_is_dropped() -> None:
    agenda = Agenda()
    agenda.push(segment(10), 5)
    agenda.push(segment(20), 5)
    agenda.push(segment(20), 4)
    assert len(agenda) == 2
    agenda.discard(segment(10))
    assert [agenda.pop(), agenda.pop()] == [segment(20), None]


def test_the_agenda_does_not_grow_with_changes() -> None:
    agenda = Agenda()
    for turn in range(20_000):
        agenda.push(segment(1), turn % 5)
    assert len(agenda._heap) < 2000
    assert agenda.pop() == segment(1) and agenda.pop() is None

"""The failure detector, looked at once a second. down after 5 s, out after 20 s, steady after 3 s, gaps up to 2 s."""

from __future__ import annotations

from objstore.cluster.detector import FailureDetector, Health, Status
from objstore.model.cluster import NodeLease
from objstore.model.ids import NodeId

A, B = NodeId("a" * 16), NodeId("b" * 16)


class Watch:
    def __init__(self, *, out: tuple[NodeId, ...] = ()) -> None:
        self.detector = FailureDetector(down_after_s=5, out_after_s=20, steady_s=3, gap_max_s=2)
        self.now = 100.0
        self.out = out

    def look(self, *live: NodeId, step: float = 1.0, started_ms: int = 1) -> dict[NodeId, Health]:
        leases = {node: NodeLease(node, node, "z", "h:1", 1, 0, 1, started_ms, "0") for node in live}
        found = self.detector.observe(self.now, [A, B], leases, self.out)
        self.now += step
        return found

    def run(self, seconds: int, *live: NodeId, started_ms: int = 1) -> list[Status]:
        """The states of A, second by second."""
        return [self.look(*live, started_ms=started_ms)[A].status for _ in range(seconds)]


def test_a_node_with_a_lease_is_up_at_once() -> None:
    watch = Watch()
    assert watch.look(A)[A] == Health(Status.UP, 0.0, 0.0)
    assert watch.look(A)[A] == Health(Status.UP, 1.0, 0.0)


def test_without_a_lease_a_node_is_late_then_down_then_out() -> None:
    watch = Watch()
    watch.look(A)
    assert watch.run(22) == [Status.LATE] * 4 + [Status.DOWN] * 15 + [Status.OUT] * 3


def test_a_late_node_is_up_again_at_once_and_its_absence_is_forgotten() -> None:
    watch = Watch()
    watch.look(A)
    for _ in range(10):
        assert watch.run(4) == [Status.LATE] * 4
        assert watch.run(1, A) == [Status.UP]


def test_a_down_node_must_be_steady_before_it_is_up() -> None:
    watch = Watch()
    watch.look(A)
    watch.run(6)
    assert watch.run(4, A) == [Status.DOWN] * 3 + [Status.UP]


def test_an_out_node_must_be_steady_before_it_is_up() -> None:
    watch = Watch()
    watch.look(A)
    assert watch.run(21)[-1] is Status.OUT
    assert watch.run(5, A) == [Status.OUT] * 3 + [Status.UP] * 2


def test_a_down_node_that_comes_and_goes_stays_down_and_its_clock_goes_on() -> None:
    watch = Watch()
    watch.look(A)
    assert watch.run(6)[-1] is Status.DOWN
    states = [state for _ in range(8) for state in (*watch.run(1, A), *watch.run(1))]
    assert Status.UP not in states
    assert states[-1] is Status.OUT, "absent for 20 s with 8 s of appearances in between"


def test_a_node_that_restarts_over_and_over_is_not_steady() -> None:
    watch = Watch()
    watch.look(A)
    watch.run(6)
    states = [state for life in range(5) for state in watch.run(2, A, started_ms=life)]
    assert set(states) == {Status.DOWN}


def test_an_up_node_that_restarts_within_its_lease_stays_up() -> None:
    watch = Watch()
    watch.look(A)
    assert watch.run(3, A, started_ms=2) == [Status.UP] * 3


def test_a_present_node_does_not_go_out_while_it_proves_steady() -> None:
    watch = Watch()
    watch.look(A)
    watch.run(18)
    assert watch.run(4, A) == [Status.DOWN] * 3 + [Status.UP]


def test_a_node_never_seen_gets_the_full_time_from_the_first_look() -> None:
    watch = Watch()
    assert watch.run(21) == [Status.LATE] * 5 + [Status.DOWN] * 15 + [Status.OUT]


def test_a_node_that_the_map_has_out_stays_out_until_it_is_steady() -> None:
    watch = Watch(out=(A,))
    assert watch.run(2) == [Status.OUT] * 2
    assert watch.run(4, A) == [Status.OUT] * 3 + [Status.UP]


def test_time_in_which_nobody_looked_makes_nobody_down() -> None:
    watch = Watch()
    watch.look(A, B, step=3600.0)
    assert watch.look()[A] == Health(Status.LATE, 0.0, 2.0)
    assert watch.run(4)[-1] is Status.DOWN


def test_a_clock_that_jumps_back_makes_nobody_younger_or_older() -> None:
    watch = Watch()
    watch.look(A)
    watch.look()
    watch.now -= 500
    assert watch.look()[A].status is Status.LATE
    assert watch.run(4)[-1] is Status.DOWN


def test_members_are_judged_apart_and_former_ones_forgotten() -> None:
    watch = Watch()
    watch.look(A, B)
    watch.run(6, A)
    found = watch.look(A)
    assert (found[A].status, found[B].status) == (Status.UP, Status.DOWN)
    assert list(watch.detector.observe(watch.now, [A], {})) == [A]
    assert watch.look(A)[B].status is Status.LATE, "seen as if for the first time"


def test_the_answer_says_for_how_long() -> None:
    watch = Watch()
    watch.look(A)
    watch.run(7)
    assert watch.look()[A] == Health(Status.DOWN, 3.0, 8.0)

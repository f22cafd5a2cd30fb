"""Plans: the same seed draws the same one, seeds differ in kind, and none asks for what the promises exclude."""

from collections import Counter

from tests.sim.network import NetworkFaults
from tests.sim.plan import draw, quiet

PLANS = [draw(seed) for seed in range(500)]


def test_same_seed_same_plan() -> None:
    assert [draw(seed) for seed in range(500)] == PLANS


def test_every_kind_of_fault_is_drawn_often() -> None:
    kinds = Counter(fault.kind for plan in PLANS for fault in plan.faults)
    away = {"kill", "power", "dark", "pause", "stop", "blackout"}
    wanted = away | {"skew", "block", "slow", "full", "eio", "rot", "cut", "wipe", "index", "add", "drain"}
    assert set(kinds) == wanted
    assert all(kinds[kind] >= 20 for kind in wanted), kinds


def test_sizes_codes_and_networks_differ() -> None:
    assert {str(plan.code) for plan in PLANS} == {"4+2", "2+1", "3+2"}
    assert {plan.nodes for plan in PLANS} == {5, 6, 7, 8, 9}
    assert len({plan.network for plan in PLANS}) > 10
    assert all(plan.nodes >= plan.code.nodes_min for plan in PLANS)


def test_faults_come_in_order_and_end() -> None:
    for plan in PLANS:
        assert [fault.at for fault in plan.faults] == sorted(fault.at for fault in plan.faults)
        assert all(0 <= fault.seconds <= 30 for fault in plan.faults)


def test_a_quiet_plan_has_the_same_sizes_and_no_faults() -> None:
    plan = quiet(7)
    assert plan.quiet and plan.network == NetworkFaults() and not plan.faults
    assert (plan.code, plan.nodes, plan.clients) == (draw(7).code, draw(7).nodes, draw(7).clients)

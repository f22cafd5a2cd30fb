"""Which value counts, under which ballot it is given on, and who has it."""

from __future__ import annotations

from objstore.model.clock import Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Register, decode
from objstore.recovery.merge import (
    Holding,
    held_by_majority,
    highest_floor,
    installable,
    lacking,
    newest,
    newest_without_map,
)
from objstore.register.acceptor import AcceptorState, install
from objstore.register.forgetting import Look
from objstore.repair.reading import Whole

KEY, OTHER = b"k" * 17, b"o" * 17
ZERO = bytes(16)
ME = 77


def at(time: int, proposer: int = 1) -> bytes:
    return Ballot(time, proposer).pack()


def value(time: int, key: bytes = KEY) -> Whole:
    return Whole(key, at(time), b"l", b"state %d" % time, b"")


def holding(*times: int, floor: int = 0) -> Holding:
    return Holding([value(time) for time in times], at(floor, 0))


def by_node(*holdings: Holding) -> dict[NodeId, Holding]:
    return {NodeId(f"n{i}"): one for i, one in enumerate(holdings)}


def test_the_highest_ballot_counts_whoever_holds_it() -> None:
    assert newest([holding(5), holding(), holding(9), holding(7)]) == {KEY: value(9)}


def test_a_register_that_was_only_promised_is_no_value() -> None:
    assert newest([Holding([Whole(KEY, ZERO, b"", b"", b"")])]) == {}


def test_without_a_map_a_value_below_the_floor_of_a_majority_needs_one_who_has_that_floor() -> None:
    forgotten = by_node(holding(5), holding(floor=8), holding(floor=8), holding(floor=9))
    found = newest_without_map(forgotten, 3)[KEY]
    assert found.listing == b"" and decode(found.state, Register).body == b"", "deleted and forgotten: it stays so"
    present = by_node(holding(5), holding(5, floor=8), holding(5, floor=8), holding(floor=9))
    assert newest_without_map(present, 3) == {KEY: value(5)}


def test_without_a_map_a_floor_that_a_minority_has_hides_nothing() -> None:
    """It is raised on every owner before anything is forgotten; until then others accept below it."""
    raising = by_node(holding(floor=9), holding(floor=9), holding(5), holding(5), holding(5))
    assert newest_without_map(raising, 3) == {KEY: value(5)}


def test_without_a_map_what_is_above_the_floor_counts_from_everybody() -> None:
    found = by_node(holding(11), holding(floor=8), holding(floor=8), holding(floor=8))
    assert newest_without_map(found, 3) == {KEY: value(11)}


def test_the_highest_floor_is_handed_on() -> None:
    assert highest_floor([holding(floor=3), holding(floor=8), holding()]) == at(8, 0)
    assert highest_floor([]) == ZERO


def takes(look: Look, key: bytes, ballot: bytes) -> bool:
    """What the acceptor itself says; a repeat of what it has is as good."""
    accepted, promised = look.ballots.get(key, (ZERO, ZERO))
    state = AcceptorState(Ballot.unpack(promised), Ballot.unpack(accepted))
    return accepted == ballot or install(state, Ballot.unpack(ballot), Ballot.unpack(look.floor))[1]


def test_values_keep_their_ballots_where_every_target_takes_them() -> None:
    looks = [Look({}), Look({KEY: (at(5), at(5))}), Look({KEY: (at(3), at(9))}), Look({OTHER: (at(20), at(30))})]
    assert installable({KEY: value(9)}, looks, ME) == {KEY: value(9)}


def test_a_value_that_a_target_would_refuse_goes_above_everything() -> None:
    for hindrance in (
        Look({KEY: (at(5), at(10))}),  # it promised more
        Look({KEY: (ZERO, at(10))}),
        Look({KEY: (at(10), at(10))}),  # it has something else
        Look({}, floor=at(10)),  # it has forgotten up to there
        Look({}, floor=at(9)),
        Look({KEY: (ZERO, at(2))}, floor=at(10)),
    ):
        looks = [Look({}), hindrance, Look({OTHER: (at(40), at(50))})]
        given = installable({KEY: value(9)}, looks, ME)[KEY]
        assert given._replace(ballot=at(9)) == value(9), "only the ballot changes"
        assert Ballot.unpack(given.ballot) == Ballot(51, ME)
        assert all(takes(look, KEY, given.ballot) for look in looks)


def test_only_what_is_lacking_is_sent() -> None:
    values = {KEY: value(9), OTHER: value(4, OTHER)}
    assert lacking(values, Look({KEY: (at(9), at(9))})) == [value(4, OTHER)]
    assert lacking(values, Look({KEY: (at(8), at(9)), OTHER: (at(4), at(4))})) == [value(9)]


def test_a_majority_is_of_all_owners_and_not_of_those_that_answer() -> None:
    has, has_not = Look({KEY: (at(9), at(9))}), Look({})
    assert held_by_majority({KEY: value(9)}, [has, has, has, has_not], 5)
    assert not held_by_majority({KEY: value(9)}, [has, has], 5)
    assert held_by_majority({}, [], 5)

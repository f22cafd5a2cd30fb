"""What renames leave in the states of keys."""

from __future__ import annotations

import pytest

from objstore.engine.keystate import placed, removed
from objstore.engine.movestate import (
    LENT_MAX,
    NotCovered,
    arrived,
    borrowed_from,
    departed,
    has_arrived,
    homes_of,
    leaving,
    lending,
    moves_of,
    own_blobs,
    received,
    returned,
    stayed,
)
from objstore.model.errors import TooManyRenames
from objstore.model.ids import BlobId
from objstore.model.manifest import BlobRef
from objstore.model.records import KeyState, Leaving, ObjectVersion

KEY, OTHER, THIRD = b"key", b"other", b"third"
ONE, TWO = b"1" * 16, b"2" * 16


def blob(number: int) -> BlobRef:
    return BlobRef(BlobId(bytes((number,)) * 16), 9, "zfec", 4, 2, 1024, 4096)


def version(*numbers: int, id: bytes = b"v" * 16) -> ObjectVersion:
    return ObjectVersion(id, 9 * len(numbers), "etag", 0, {}, tuple(map(blob, numbers)))


@pytest.mark.parametrize("homes", [(), (KEY,), (OTHER,), (KEY, KEY), (OTHER, OTHER, KEY), (OTHER, KEY, OTHER, THIRD)])
def test_homes_are_kept_in_runs(homes: tuple[bytes, ...]) -> None:
    held = ObjectVersion(b"", 0, "", 0, {}, tuple(map(blob, range(len(homes)))), borrowed=borrowed_from(homes, KEY))
    assert homes_of(held, KEY) == homes
    assert bool(held.borrowed) == any(home != KEY for home in homes)
    assert own_blobs(held) == tuple(ref for ref, home in zip(held.blobs, homes, strict=True) if home == KEY)


def test_what_is_lent_is_not_retired_until_it_is_back() -> None:
    state = lending(KeyState((version(1, 2),)), ONE, OTHER, [blob(1), blob(2)])
    state = leaving(state, Leaving(ONE, OTHER, b"v" * 16))
    state = departed(removed(state, state.versions[0], 5), ONE)
    assert not state.versions and not state.retired and moves_of(state).lent[0].made
    state, garbage = returned(state, ONE, {blob(2).id})
    assert garbage == (blob(2),) and moves_of(state).lent[0].blobs == (blob(1),)
    state, garbage = returned(state, ONE, {blob(1).id})
    assert garbage == (blob(1),) and state == KeyState()


def test_what_is_lent_twice_or_named_again_is_no_garbage() -> None:
    state = lending(lending(KeyState((version(1, 2),)), ONE, OTHER, [blob(1), blob(2)]), TWO, THIRD, [blob(1)])
    state, garbage = returned(state, ONE, {blob(1).id, blob(2).id})
    assert not garbage and [one.id for one in moves_of(state).lent] == [TWO]


def test_a_borrowed_blob_is_never_retired_where_it_is_not_at_home() -> None:
    borrowed = ObjectVersion(b"w" * 16, 18, "", 0, {}, (blob(1), blob(2)), borrowed=borrowed_from((OTHER, KEY), KEY))
    state = placed(KeyState((borrowed,)), version(3), 7)
    assert [old.blob for old in state.retired] == [blob(2)]


def test_only_what_a_key_answers_for_can_be_lent() -> None:
    borrowed = ObjectVersion(b"w" * 16, 9, "", 0, {}, (blob(1),), borrowed=borrowed_from((OTHER,), KEY))
    for state in (KeyState(), KeyState((version(2),)), KeyState((borrowed,))):
        with pytest.raises(NotCovered):
            lending(state, ONE, THIRD, [blob(1)])


def test_a_key_lends_no_more_than_its_register_can_hold() -> None:
    state = KeyState((version(1),))
    for number in range(LENT_MAX):
        state = lending(state, number.to_bytes(16, "big"), OTHER, [blob(1)])
    with pytest.raises(TooManyRenames, match="500 objects"):
        lending(state, ONE, OTHER, [blob(1)])
    parts = tuple(BlobRef(BlobId(number.to_bytes(16, "big")), 9, "zfec", 4, 2, 1, 1) for number in range(10_000))
    state = KeyState((ObjectVersion(b"v", 0, "", 0, {}, parts),))
    for number in range(3):
        state = lending(state, number.to_bytes(16, "big"), OTHER, parts)
    with pytest.raises(TooManyRenames, match="3 objects"):
        lending(state, ONE, OTHER, parts)


def test_who_settles_late_changes_nothing_of_the_next_rename() -> None:
    """INV-25"""
    going = Leaving(TWO, OTHER, b"v" * 16)
    state = leaving(lending(KeyState((version(1),)), TWO, OTHER, [blob(1)]), going)
    assert stayed(state, ONE) == state
    made = departed(state, TWO)
    assert stayed(made, TWO) == made and moves_of(made).lent
    assert stayed(state, TWO) == KeyState((version(1),))


def test_an_arrival_is_known_until_it_is_forgotten() -> None:
    state = arrived(arrived(KeyState(), ONE, OTHER), TWO, THIRD)
    assert has_arrived(state, ONE) and has_arrived(state, TWO)
    state = received(state, ONE)
    assert not has_arrived(state, ONE) and has_arrived(state, TWO)
    assert received(state, TWO) == KeyState()

"""The state of an object key, and of a bucket name: pure functions, checked by what they promise."""

from __future__ import annotations

import random

import msgspec
import pytest

from objstore.engine.buckets import ended_in, living, nobody, without_ended
from objstore.engine.keystate import (
    attempt_of,
    beside,
    body_with,
    born_of,
    check_unlocked,
    current,
    find,
    floor_above,
    has_inline_room,
    inline_piece,
    listing_of,
    made_by,
    newest,
    placed,
    removed,
    state_of,
    with_attempt,
    without_attempts,
    written,
)
from objstore.model import limits
from objstore.model.errors import ObjectLocked, TooManyVersions
from objstore.model.ids import BlobId, BucketId, uuid7
from objstore.model.manifest import BlobRef
from objstore.model.records import Attempt, BucketState, KeyState, ListEntry, Lock, ObjectVersion, decode, encode


def ref(number: int, at_ms: int = 1000) -> BlobRef:
    return BlobRef(BlobId(uuid7(at_ms, bytes((number,)) * 10)), 10, "zfec", 4, 2, 16, 64)


def version(*blobs: BlobRef, id: bytes = b"v", null: bool = True, size: int = 10) -> ObjectVersion:
    return ObjectVersion(id, size, "e", 5, {}, blobs, null=null)


def marker(id: bytes, *, null: bool = False) -> ObjectVersion:
    return ObjectVersion(id, 0, "", 6, {}, (), null=null, marker=True)


def test_a_replaced_version_retires_what_the_new_one_does_not_use() -> None:
    state = placed(KeyState(), version(ref(1), ref(2)), 7)
    assert state == KeyState((version(ref(1), ref(2)),))
    state = placed(state, version(ref(2), ref(3)), 8)
    assert [(old.blob.id, old.at_ms) for old in state.retired] == [(ref(1).id, 8)]
    state = removed(state, state.versions[0], 9)
    assert [old.blob.id for old in state.retired] == [ref(1).id, ref(2).id, ref(3).id] and not state.versions


def test_versions_stay_beside_each_other_and_there_is_one_null_version() -> None:
    state = placed(KeyState(), version(ref(1), id=b"0"), 1)
    for number in (1, 2):
        state = placed(state, version(ref(number + 1), id=b"%d" % number, null=False), 1)
    assert [one.version_id for one in state.versions] == [b"2", b"1", b"0"] and not state.retired
    state = placed(state, version(ref(4), id=b"3"), 1)  # suspended: takes the place of the null version alone
    assert [one.version_id for one in state.versions] == [b"3", b"2", b"1"]
    assert [old.blob.id for old in state.retired] == [ref(1).id]


def test_a_delete_marker_hides_the_key_and_taking_it_away_brings_it_back() -> None:
    state = placed(placed(KeyState(), version(ref(1), id=b"1", null=False), 1), marker(b"2"), 2)
    assert current(state) is None and newest(state) == marker(b"2") and not state.retired
    assert decode(listing_of(state), ListEntry).hidden
    found = find(state, b"2".hex())
    assert found is not None
    state = removed(state, found, 3)
    assert current(state) == version(ref(1), id=b"1", null=False) and not state.retired


def test_blobs_that_two_versions_share_outlive_one_of_them() -> None:
    old, new = version(ref(1), id=b"1", null=False), version(ref(1), ref(2), id=b"2", null=False)
    state = removed(placed(placed(KeyState(), old, 1), new, 2), old, 3)
    assert not state.retired
    assert [one.blob.id for one in removed(state, new, 4).retired] == [ref(1).id, ref(2).id]


def test_inline_bodies_follow_each_other_in_the_order_of_versions() -> None:
    """INV-18: whatever is written, each version that stays keeps its own bytes."""
    data, state = b"", KeyState()
    bodies: dict[bytes, bytes] = {}
    order = random.Random(7)
    for step in range(300):
        before = state
        if before.versions and order.random() < 0.3:
            state = removed(before, order.choice(before.versions), step)
            new = b""
        else:
            id, new = step.to_bytes(2, "big"), bytes((step % 256,)) * order.randrange(5)
            made = version(*([] if order.random() < 0.7 else [ref(step % 200)]), id=id, size=len(new))
            if made.blobs:
                new = b""
            state = placed(before, msgspec.structs.replace(made, null=order.random() < 0.2), step)
            bodies[id] = new
        outcome = written(before, state, new)
        assert outcome.data is not None
        data = outcome.data + b"".join(data[at : at + length] for at, length in outcome.kept)
        for one in state.versions:
            at, length = inline_piece(state, one)
            assert data[at : at + length] == bodies[one.version_id]
    assert len(state.versions) > 10


def test_small_bodies_find_room_up_to_a_bound_and_one_alone_always() -> None:
    half = limits.INLINE_KEPT_MAX // 2
    state = placed(KeyState(), version(size=limits.INLINE_KEPT_MAX * 2, id=b"0", null=False), 1)
    assert has_inline_room(state) and not has_inline_room(placed(state, version(id=b"1", null=False), 1))
    state = placed(placed(KeyState(), version(size=half, id=b"0", null=False), 1), version(size=half, id=b"1"), 1)
    assert has_inline_room(state) and not has_inline_room(placed(state, version(id=b"2", null=False, size=1), 1))


@pytest.mark.parametrize(
    ("lock", "bypass", "free"),
    [
        (Lock(), False, True),
        (Lock("GOVERNANCE", 100), False, False),
        (Lock("GOVERNANCE", 100), True, True),
        (Lock("GOVERNANCE", 99), False, True),
        (Lock("COMPLIANCE", 100), True, False),
        (Lock("GOVERNANCE", 100, hold=True), True, False),
        (Lock(hold=True), False, False),
    ],
)
def test_a_locked_version_stays(lock: Lock, bypass: bool, free: bool) -> None:
    if free:
        check_unlocked(lock, 99, bypass=bypass)
        return
    with pytest.raises(ObjectLocked):
        check_unlocked(lock, 99, bypass=bypass)


def test_a_null_version_under_a_lock_is_not_replaced() -> None:
    state = placed(KeyState(), msgspec.structs.replace(version(), lock=Lock(hold=True)), 1)
    with pytest.raises(ObjectLocked):
        placed(state, version(id=b"2"), 2)
    assert len(placed(state, version(id=b"2", null=False), 2).versions) == 2


def test_a_key_holds_so_many_versions_and_no_more() -> None:
    many = tuple(version(id=b"%d" % i, null=False) for i in range(limits.VERSIONS_MAX))
    with pytest.raises(TooManyVersions):
        placed(KeyState(many), version(null=False), 1)
    assert len(removed(KeyState(many), many[5], 1).versions) == limits.VERSIONS_MAX - 1


def test_a_list_shows_of_a_key_what_its_newest_version_is() -> None:
    headers = {"x-amz-checksum-type": "FULL_OBJECT", "x-amz-checksum-crc32c": "AAAAAA=="}
    new = msgspec.structs.replace(version(id=b"2" * 16, null=False), headers=headers)
    entry = decode(listing_of(KeyState((new, version()))), ListEntry)
    assert entry == ListEntry(10, "e", 5, "CRC32C FULL_OBJECT", b"2" * 16, False, 2)
    assert decode(listing_of(KeyState((version(),))), ListEntry) == ListEntry(10, "e", 5)
    assert listing_of(KeyState()) == b""


def test_the_last_word_about_a_key_is_a_tombstone() -> None:
    only = version()
    state = removed(KeyState((only,)), only, 9)
    assert body_with(state) == b"" and state_of(b"") == KeyState()
    assert beside(KeyState()).body == b"" and beside(KeyState()).listing == b""
    assert state_of(body_with(KeyState((version(ref(1)),)))).versions == (version(ref(1)),)


def test_attempts_are_listed_once_and_outlive_their_object() -> None:
    first, other = Attempt(b"a" * 16, b"u" * 16), Attempt(b"b" * 16, b"u" * 16)
    state = with_attempt(with_attempt(KeyState(), first), other)
    made = Attempt(first.id, first.upload, made=True)
    state = placed(with_attempt(state, made), msgspec.structs.replace(version(ref(1)), upload_id=b"u" * 16), 3)
    assert made_by(state, b"u" * 16) == state.versions[0] and made_by(state, b"") is None
    assert attempt_of(state, first.id) == made and attempt_of(state, other.id) == other
    state = removed(state, state.versions[0], 4)
    assert attempt_of(state, first.id) == made
    left = without_attempts(state, frozenset((first.id,)))
    assert left.attempts == (other,) and attempt_of(left, first.id) is None


def test_a_write_is_as_old_as_its_oldest_blob() -> None:
    assert born_of(()) is None
    assert born_of((ref(1, 5000), ref(2, 4000))) == 4000 << 16
    assert born_of((ref(1, 4000),)) == floor_above(ref(9, 4000).id), "given up with those of the same moment"
    assert (born_of((ref(1, 4001),)) or 0) > floor_above(ref(9, 4000).id)


def test_a_bucket_name_remembers_the_ended_until_it_is_told_to_forget() -> None:
    one, two = BucketId(b"1" * 16), BucketId(b"2" * 16)
    gone = encode(nobody((one, two)))
    assert living(gone) is None and ended_in(gone) == (one, two) and living(b"") is None and ended_in(b"") == ()
    left = without_ended(gone, one)
    assert left.body is not None and ended_in(left.body) == (two,) and left.listing == b""
    assert without_ended(left.body, two).body == b"", "then nothing is left to be known"
    assert without_ended(left.body, one).body is None
    again = encode(BucketState(two, 5, 16, b"", (one,)))
    kept = without_ended(again, one)
    assert kept.body is not None and living(kept.body) == BucketState(two, 5, 16) and kept.listing

"""The state of an object key, and of a bucket name: pure functions, checked by what they promise."""

from __future__ import annotations

from objstore.engine.buckets import ended_in, living, nobody, without_ended
from objstore.engine.keystate import (
    attempt_of,
    beside,
    body_with,
    born_of,
    floor_above,
    replace,
    state_of,
    with_attempt,
    without_attempts,
)
from objstore.model.ids import BlobId, BucketId, uuid7
from objstore.model.manifest import BlobRef
from objstore.model.records import Attempt, BucketState, KeyState, ObjectVersion, encode


def ref(number: int, at_ms: int = 1000) -> BlobRef:
    return BlobRef(BlobId(uuid7(at_ms, bytes((number,)) * 10)), 10, "zfec", 4, 2, 16, 64)


def version(*blobs: BlobRef) -> ObjectVersion:
    return ObjectVersion(b"v", 10, "e", 5, {}, blobs)


def test_a_replaced_version_retires_what_the_new_one_does_not_use() -> None:
    state = replace(KeyState(), version(ref(1), ref(2)), 7)
    assert state == KeyState((version(ref(1), ref(2)),))
    state = replace(state, version(ref(2), ref(3)), 8)
    assert [(old.blob.id, old.at_ms) for old in state.retired] == [(ref(1).id, 8)]
    state = replace(state, None, 9)
    assert [old.blob.id for old in state.retired] == [ref(1).id, ref(2).id, ref(3).id] and not state.versions


def test_the_last_word_about_a_key_is_a_tombstone() -> None:
    state = replace(KeyState((version(),)), None, 9)
    assert body_with(state) == b"" and state_of(b"") == KeyState()
    assert beside(KeyState()).body == b"" and beside(KeyState()).listing == b""
    assert state_of(body_with(KeyState((version(ref(1)),)))).versions == (version(ref(1)),)


def test_attempts_are_listed_once_and_outlive_their_object() -> None:
    first, other = Attempt(b"a" * 16, b"u" * 16), Attempt(b"b" * 16, b"u" * 16)
    state = with_attempt(with_attempt(KeyState(), first), other)
    made = Attempt(first.id, first.upload, made=True)
    state = replace(with_attempt(state, made), version(ref(1)), 3)
    assert attempt_of(state, first.id) == made and attempt_of(state, other.id) == other
    state = replace(state, None, 4)
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

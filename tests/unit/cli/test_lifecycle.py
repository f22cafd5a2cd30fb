"""`objstore lifecycle status`: what it says."""

from __future__ import annotations

from objstore.cli.lifecycle import describe
from objstore.model.lifecycle import Cursor, Done, LifecycleProgress

DONE = Done(buckets=2, keys=1234, expired=3, expired_bytes=3 << 20, marked=4, aborted=5)


def test_between_rounds_the_last_one_is_told_and_when_the_next_begins() -> None:
    progress = LifecycleProgress(last_started_ms=1000, last_ended_ms=61_000, last=DONE, next_ms=3_601_000)
    text = "\n".join(describe(progress, 121_000))
    assert "ended 1m 0s ago, took 1m 0s" in text
    assert "2 buckets with rules, 1,234 keys seen" in text
    assert "3 versions expired (3 MiB), 4 objects under delete markers, 5 uploads aborted" in text
    assert text.endswith("next   in 58m 0s")
    assert "error" not in text and "could not" not in text


def test_during_a_round_its_place_is_told() -> None:
    def first_line(cursor: Cursor) -> str:
        return describe(LifecycleProgress(started_ms=1000, cursor=cursor), 61_000)[0]

    assert first_line(Cursor()) == "now    since 1m 0s ago"
    assert first_line(Cursor("photos")) == "now    since 1m 0s ago, in bucket photos"
    assert first_line(Cursor("photos", uploads=True)) == "now    since 1m 0s ago, in bucket photos, its uploads"
    assert first_line(Cursor("photos\x00")) == "now    since 1m 0s ago, bucket photos is done"


def test_keys_that_wait_are_told_with_the_reason() -> None:
    progress = LifecycleProgress(last_ended_ms=1, last=Done(errors=7), error="photos: no majority")
    text = "\n".join(describe(progress, 2))
    assert "7 keys could not be looked after; they wait for the next round" in text
    assert "error  photos: no majority" in text
    assert text.endswith("next   is due")

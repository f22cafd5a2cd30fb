"""The usual time of a sync: of late, and only when there were enough."""

from __future__ import annotations

from objstore.node.sync_times import RECENT_S, SAMPLE_MIN, SyncTimes


def test_it_is_the_median_of_the_last_minute() -> None:
    times = SyncTimes()
    for number in range(SAMPLE_MIN - 1):
        times.note(number, 3.0)
    assert times.usual_s(10.0) == 0.0, "too few"
    for number in range(10):
        times.note(20 + number, 1.0)
    assert times.usual_s(30.0) == 1.0, "one slow sync is no slow disk"
    assert times.usual_s(29 + RECENT_S) == 0.0, "long ago"
    assert times.histogram.count == SAMPLE_MIN + 9

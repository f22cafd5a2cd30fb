"""What one gateway process counts of its requests, for metrics. Nothing here may cost a request more than a microsecond
or two: plain dictionaries of one thread, read by whoever exports them."""

from __future__ import annotations

import msgspec

from objstore.model.histogram import Histogram

UNKNOWN = "Unknown"  # refused before it was known what was asked for


class Traffic(msgspec.Struct):
    """By operation. They only grow, and those of several processes may be added up."""

    requests: dict[str, dict[int, int]] = {}  # operation -> HTTP status -> count
    durations: dict[str, Histogram] = {}
    first_bytes: dict[str, Histogram] = {}
    bytes_in: int = 0
    bytes_out: int = 0
    in_flight: int = 0  # now
    notified: dict[str, dict[str, int]] = {}  # target of notifications -> delivered or failed -> count
    loop_lag: Histogram = msgspec.field(default_factory=Histogram)  # of the event loop that serves them

    def count(
        self, operation: str, status: int, seconds: float, first_byte_s: float, bytes_in: int, bytes_out: int
    ) -> None:
        operation = operation or UNKNOWN
        by_status = self.requests.get(operation)
        if by_status is None:
            by_status = self.requests[operation] = {}
            self.durations[operation] = Histogram()
            self.first_bytes[operation] = Histogram()
        by_status[status] = by_status.get(status, 0) + 1
        self.durations[operation].observe(seconds)
        self.first_bytes[operation].observe(first_byte_s)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def add(self, other: Traffic) -> None:
        """Those of another process."""
        for operation, by_status in other.requests.items():
            mine = self.requests.setdefault(operation, {})
            for status, count in by_status.items():
                mine[status] = mine.get(status, 0) + count
        for target, by_result in other.notified.items():
            ours = self.notified.setdefault(target, {})
            for result, count in by_result.items():
                ours[result] = ours.get(result, 0) + count
        for own, theirs in ((self.durations, other.durations), (self.first_bytes, other.first_bytes)):
            for operation, histogram in theirs.items():
                own.setdefault(operation, Histogram()).add(histogram)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.in_flight += other.in_flight
        self.loop_lag.add(other.loop_lag)

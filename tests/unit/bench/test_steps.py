"""What the load asks, without anybody who answers."""

from __future__ import annotations

import time
from collections import Counter

import msgspec
import pytest

from objstore.bench.connection import Answer
from objstore.bench.content import Content
from objstore.bench.model import Endpoint, Job, Phase
from objstore.bench.steps import Steps, key_of

NOW = "20260131T235959Z"
JOB = Job(
    Endpoint("x", "127.0.0.1", 9000, "key", "secret"), "bucket", "20000/", Phase("get", 20_000, 4, 1.0, 0.0), seed=7,
    process=0, connections=4, written=[3, 5], begin_s=time.monotonic(),
)  # fmt: skip


def steps(**phase: object) -> Steps:
    return Steps(msgspec.structs.replace(JOB, phase=msgspec.structs.replace(JOB.phase, **phase)), NOW)


def test_reads_are_of_all_objects_of_all_processes() -> None:
    found = steps()
    asked = Counter(request.key for _ in range(2000) if (request := found.next()))
    assert set(asked) == {key_of(p, n) for p, count in enumerate(JOB.written) for n in range(count)}
    assert min(asked.values()) > 2000 / 8 / 2


@pytest.mark.parametrize("operation", ["degraded", "repair"])
def test_degraded_ones_are_gets(operation: str) -> None:
    request = steps(operation=operation).next()
    assert request is not None and request.operation == "get" and request.head.startswith(b"GET /bucket/20000/")


def test_a_range_lies_inside_of_its_object() -> None:
    found = steps(operation="range", range_size=500)
    for _ in range(200):
        request = found.next()
        assert request is not None and request.head.endswith(b"\r\n\r\n")
        line = next(line for line in request.head.split(b"\r\n") if line.startswith(b"Range:"))
        first, last = map(int, line.removeprefix(b"Range: bytes=").split(b"-"))
        assert 0 <= first and last == first + 499 < 20_000


def test_a_put_that_failed_is_asked_again_and_a_bound_is_kept() -> None:
    found = Steps(
        msgspec.structs.replace(JOB, objects=2, phase=msgspec.structs.replace(JOB.phase, operation="put")), NOW
    )
    one, two = found.next(), found.next()
    assert one is not None and two is not None and (one.number, two.number) == (3, 4) and found.next() is None
    found.finish(one, done=False)
    again = found.next()
    assert again is not None and again.number == 3 and found.next() is None
    assert found.written == 5


def test_wrong_bytes_of_the_right_length_are_a_mismatch() -> None:
    found = steps(verify=True)
    for damage in (b"", b"!"):
        request = found.next()
        assert request is not None and request.sink is not None
        body = b"".join(Content(JOB.seed).pieces(request.key, 20_000))
        request.sink.update(body[: len(body) - len(damage)] + damage)
        assert found.take(request, Answer(200, b"", size=20_000)) == 20_000
    assert (found.verified, found.mismatches) == (2, 1)


def test_a_mixed_load_reads_what_nobody_else_uses() -> None:
    found = steps(operation="mixed")
    under_way: dict[int, str] = {}
    for turn in range(500):
        request = found.next()
        assert request is not None and request.number not in under_way
        under_way[request.number] = request.operation
        if turn % 3 == 0:
            found.finish(request, done=True)
            del under_way[request.number]

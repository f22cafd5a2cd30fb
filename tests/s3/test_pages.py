"""What a gateway answers beside S3: health, metrics, and what it counts."""

from __future__ import annotations

import asyncio
import json

import pytest

from objstore.engine.types import Reach
from tests.s3.memory_engine import MemoryEngine
from tests.s3.test_service import connect, serving
from tests.s3.wire import Wire


def health(wire: Wire, page: str) -> tuple[int, str]:
    wire.send(f"GET /_objstore/health/{page} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = wire.answer()
    return answer.status, json.loads(answer.body)["text"]


class CutOffEngine(MemoryEngine):
    """`reach` says what a test wants."""

    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self.found = reach

    async def reach(self) -> Reach:
        return self.found


@pytest.mark.parametrize(
    ("found", "ready", "cluster", "read"),
    [
        (Reach(), 200, 200, 200),
        (Reach(write="w"), 200, 503, 200),
        (Reach(read="r", write="w"), 200, 503, 503),
        (Reach(read="r", write="w", serve="s"), 503, 503, 503),
    ],
)
def test_health_needs_no_signature_and_can_fail(found: Reach, ready: int, cluster: int, read: int) -> None:
    wanted = {"live": 200, "ready": ready, "cluster": cluster, "cluster/read": read}
    with serving(CutOffEngine(found)) as (_, wire):
        for page, status in wanted.items():
            wire.send(f"GET /_objstore/health/{page} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = wire.answer()
            assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
            said = json.loads(answer.body)
            assert said["ok"] is (status == 200)
            assert said["text"] == ("all is well" if status == 200 else {"ready": "s", "cluster": "w"}.get(page, "r"))
            wire.send(f"HEAD /_objstore/health/{page} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert wire.answer("HEAD").status == status


def test_there_are_no_other_pages_and_no_other_methods() -> None:
    with serving(MemoryEngine()) as (_, wire):
        for page in ("", "health", "health/", "metrics", "x"):
            wire.send(f"GET /_objstore/{page} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert wire.answer().status == 404
        wire.send(b"PUT /_objstore/health/ready HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert wire.answer().status == 405


def test_a_stopping_gateway_is_alive_and_not_ready() -> None:
    with serving(MemoryEngine()) as (gateway, _):
        asyncio.run_coroutine_threadsafe(gateway.running.close(1.0, notice_s=1.0), gateway.loop)
        assert asyncio.run_coroutine_threadsafe(_turn(), gateway.loop).result(10) is None
        with connect(gateway) as wire:
            assert health(wire, "ready") == (503, "this gateway is stopping")
        with connect(gateway) as wire:
            assert health(wire, "live") == (200, "all is well")


async def _turn() -> None:
    """What was handed to the loop before has begun."""


async def some_metrics() -> bytes:
    return b"# metrics\n"


def test_metrics_want_their_token() -> None:
    with serving(MemoryEngine(), metrics=some_metrics, metrics_token="geheim") as (_, wire):
        for given, status in ((None, 401), ("Bearer x", 401), ("Basic geheim", 401), ("Bearer geheim", 200)):
            line = f"authorization: {given}\r\n" if given else ""
            wire.send(f"GET /_objstore/metrics HTTP/1.1\r\nhost: x\r\n{line}\r\n".encode())
            answer = wire.answer()
            assert answer.status == status
        assert answer.body == b"# metrics\n"


def test_metrics_may_be_open() -> None:
    with serving(MemoryEngine(), metrics=some_metrics) as (_, wire):
        wire.send(b"GET /_objstore/metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        assert wire.answer().status == 200


def test_requests_are_counted_and_checks_of_health_are_not() -> None:
    with serving(MemoryEngine()) as (gateway, wire):
        assert wire.request("PUT", "/bucket/k", body=b"12345").status == 200
        assert wire.request("GET", "/bucket/k").status == 200
        assert wire.request("GET", "/bucket/none").status == 404
        wire.send(b"GET /bucket/k HTTP/1.1\r\nhost: x\r\n\r\n")
        assert wire.answer().status == 403
        assert health(wire, "ready")[0] == 200
        traffic = gateway.running.traffic
        assert traffic.requests == {
            "CreateBucket": {200: 1},
            "PutObject": {200: 1},
            "GetObject": {200: 1, 404: 1, 403: 1},
        }
        assert traffic.bytes_in == 5
        assert traffic.bytes_out >= 5
        assert traffic.durations["GetObject"].count == traffic.first_bytes["GetObject"].count == 3
        assert traffic.in_flight == 0

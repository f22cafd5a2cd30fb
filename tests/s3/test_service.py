"""The gateway as a service: bounds, time-outs, engines that fail, long answers, shutdown. In process only."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.port import Engine
from objstore.engine.sealing import Sealing
from objstore.engine.types import ObjectInfo
from objstore.model import errors
from objstore.model.context import FIELDS
from objstore.ports import Buffer
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, LocalGateway, local_gateway, settings
from tests.s3.memory_engine import MemoryEngine
from tests.s3.wire import Wire

SIZE = 1 << 20
TWO_SPACES = b"1\r\n \r\n1\r\n \r\n"  # as they come in the chunked transfer encoding


@contextmanager
def serving(engine: Engine, **changes: Any) -> Iterator[tuple[LocalGateway, Wire]]:
    with local_gateway(engine, settings(**changes)) as gateway, connect(gateway) as wire:
        assert wire.request("PUT", "/bucket").status == 200
        yield gateway, wire


def connect(gateway: LocalGateway) -> Wire:
    return Wire(gateway.host, gateway.port, ACCESS_KEY, SECRET_KEY)


def begin_put(wire: Wire, size: int = 1000) -> None:
    """The head of a PUT, and one byte of its body."""
    head, _ = wire.head("PUT", "/bucket/k", {"content-length": str(size), "expect": "100-continue"}, "UNSIGNED-PAYLOAD")
    wire.send(head)
    assert wire.answer().status == 100
    wire.send(b"x")


class BreakingEngine(MemoryEngine):
    """Reads end after `good` bytes, with an error if there is one."""

    def __init__(self, good: int, error: Exception | None) -> None:
        super().__init__()
        whole = self.read

        async def read(
            info: ObjectInfo, offset: int, length: int, sealing: Sealing | None = None
        ) -> AsyncIterator[Buffer]:
            if good:
                async for buffer in whole(info, offset, good, sealing):
                    yield buffer
            if error is not None:
                raise error

        self.read = read


class GatedEngine(MemoryEngine):
    """Completions wait until `gate` is set (from any thread); then `error`, if any, is raised."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.gate = threading.Event()
        complete = self.complete_upload

        async def gated(*arguments: Any, **options: Any) -> ObjectInfo:
            await asyncio.get_running_loop().run_in_executor(None, self.gate.wait, 20)
            if error:
                raise error
            return await complete(*arguments, **options)

        self.complete_upload = gated


# --- reads that fail


@pytest.mark.parametrize("error", [errors.QuorumLost("shards are gone"), RuntimeError("a bug")])
def test_a_read_that_breaks_breaks_the_connection(error: Exception) -> None:
    with serving(BreakingEngine(SIZE // 2, error)) as (_, wire):
        wire.request("PUT", "/bucket/k", bytes(SIZE))
        answer = wire.request("GET", "/bucket/k")
        assert (answer.status, answer.complete) == (200, False)


def test_a_read_that_ends_early_breaks_the_connection() -> None:
    with serving(BreakingEngine(SIZE - 1, None)) as (_, wire):
        wire.request("PUT", "/bucket/k", bytes(SIZE))
        assert not wire.request("GET", "/bucket/k").complete


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.QuorumLost("3 of 6 shards answer, 4 are needed"), 503, "ServiceUnavailable"),
        (errors.Overloaded("full"), 503, "SlowDown"),
        (errors.Corrupt("rotten"), 500, "InternalError"),
        (RuntimeError("a bug"), 500, "InternalError"),
    ],
)
def test_a_read_that_cannot_begin_is_a_clean_error(error: Exception, status: int, code: str) -> None:
    with serving(BreakingEngine(0, error)) as (_, wire):
        wire.request("PUT", "/bucket/k", bytes(SIZE))
        answer = wire.request("GET", "/bucket/k")
        assert (answer.status, answer.code) == (status, code)
        assert ("retry-after" in answer.headers) is (status == 503)
        assert wire.request("HEAD", "/bucket/k").status == 200  # and the connection lives on


def test_an_unforeseen_error_is_logged_under_its_request_id(caplog: pytest.LogCaptureFixture) -> None:
    with serving(BreakingEngine(0, RuntimeError("what nobody foresaw"))) as (_, wire):
        wire.request("PUT", "/bucket/k", b"x")
        answer = wire.request("GET", "/bucket/k")
    assert b"what nobody foresaw" not in answer.body
    said = [vars(record) for record in caplog.records if record.exc_info]
    assert [record["request_id"] for record in said] == [answer.headers["x-amz-request-id"]]
    assert "what nobody foresaw" in caplog.text


# --- bounds and time-outs


def test_a_body_that_stops_coming_times_out() -> None:
    with serving(MemoryEngine(), body_idle_s=0.2) as (_, wire):
        begin_put(wire)
        assert wire.answer().code == "RequestTimeout"
        assert wire.is_closed()


def test_a_client_that_takes_nothing_is_dropped() -> None:
    with serving(MemoryEngine(), send_idle_s=0.2) as (gateway, wire):
        wire.request("PUT", "/bucket/k", bytes(32 << 20))
        with connect(gateway) as stuck:
            stuck.send(stuck.head("GET", "/bucket/k", {})[0])
            stuck.wait_for(b"\r\n\r\n")
            assert gateway.close(10.0).result(5) is None  # the request ended, long before the grace did
            assert not stuck.answer().complete


def test_beyond_the_bound_a_request_is_told_to_slow_down() -> None:
    with serving(MemoryEngine(), requests_max=1) as (gateway, wire):
        begin_put(wire, 2)
        with connect(gateway) as other:
            answer = other.request("GET", "/bucket")
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "SlowDown", "1")
            wire.send(b"y")
            assert wire.answer().status == 200
            assert other.request("GET", "/bucket").status == 200


def test_the_bucket_may_be_in_the_host_name() -> None:
    with serving(MemoryEngine(), domain="s3.test") as (gateway, wire):
        wire.request("PUT", "/bucket/_objstore/health/ready", b"an object")
        with connect(gateway) as other:
            other.host = "bucket.s3.test:9000"
            assert other.request("GET", "/_objstore/health/ready").body == b"an object"
            assert b"<Name>bucket</Name>" in other.request("GET", "/").body


# --- answers that take long


def complete_request(wire: Wire) -> bytes:
    """A ready completion of one part, as bytes to send."""
    upload = wire.request("POST", "/bucket/k?uploads").body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    etag = wire.request("PUT", f"/bucket/k?partNumber=1&uploadId={upload}", b"data").headers["etag"]
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    headers = {"content-length": str(len(body))}
    return wire.head("POST", f"/bucket/k?uploadId={upload}", headers, "UNSIGNED-PAYLOAD")[0] + body.encode()


def test_a_long_completion_is_kept_alive_by_white_space() -> None:
    engine = GatedEngine()
    with serving(engine, patience_s=0.02) as (_, wire):
        wire.send(complete_request(wire))
        wire.wait_for(TWO_SPACES)
        engine.gate.set()
        answer = wire.answer()
        assert answer.status == 200
        assert answer.body.startswith(b"<?xml") and b"?>\n  " in answer.body
        assert answer.body.count(b"<?xml") == 1 and b"CompleteMultipartUploadResult" in answer.body


def test_a_long_completion_that_fails_says_so_in_its_body() -> None:
    engine = GatedEngine(errors.PreconditionFailed("exists"))
    with serving(engine, patience_s=0.02) as (_, wire):
        wire.send(complete_request(wire))
        wire.wait_for(TWO_SPACES)
        engine.gate.set()
        answer = wire.answer()
        assert (answer.status, answer.code) == (200, "PreconditionFailed")
        assert wire.request("HEAD", "/bucket/k").status == 404


def test_a_quick_completion_fails_with_its_status() -> None:
    engine = GatedEngine(errors.PreconditionFailed("exists"))
    engine.gate.set()
    with serving(engine) as (_, wire):
        wire.send(complete_request(wire))
        assert wire.answer().status == 412


# --- shutdown


def test_shutdown_lets_a_request_in_flight_end() -> None:
    with serving(MemoryEngine()) as (gateway, wire), connect(gateway) as idle:
        begin_put(wire, 2)
        closing = gateway.close(10.0)
        assert idle.is_closed()
        with pytest.raises(ConnectionError):
            connect(gateway)
        wire.send(b"y")
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.is_closed()
        closing.result(10)


def test_before_it_stops_it_serves_on_and_tells_balancers_to_go_elsewhere() -> None:
    """A request whose headers have left keeps its connection; every later answer is the last of its own."""
    with serving(MemoryEngine()) as (gateway, wire):
        wire.request("PUT", "/bucket/long", bytes(32 << 20))
        with connect(gateway) as streaming:
            streaming.send(streaming.head("GET", "/bucket/long", {})[0])
            streaming.wait_for(b"\r\n\r\n")
            closing = gateway.close(10.0, notice_s=60.0)
            with connect(gateway) as check:
                check.send(b"GET /_objstore/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
                assert check.answer().status == 503
            answer = wire.request("PUT", "/bucket/k", b"served")
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert wire.is_closed()
            with connect(gateway) as fresh:
                answer = fresh.request("GET", "/bucket/k")
                assert (answer.body, answer.headers["connection"]) == (b"served", "close")
            assert streaming.answer().complete
            assert streaming.request("HEAD", "/bucket/k").headers["connection"] == "close"
            closing.cancel()


def test_shutdown_cuts_off_what_does_not_end() -> None:
    with serving(MemoryEngine()) as (gateway, wire):
        begin_put(wire)
        gateway.close(0.1).result(10)
        assert wire.is_closed()


# --- access log


def test_the_access_log_has_a_record_per_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="gateway.access")
    with serving(MemoryEngine()) as (_, wire):
        wire.request("PUT", "/bucket/k", b"12345")
        wire.request("GET", "/bucket/k?x-id=GetObject")
        wire.request("GET", "/bucket/missing")
    records = [vars(record)[FIELDS] for record in caplog.records if record.name == "gateway.access"]
    columns = ("operation", "path", "status", "error", "bytes_in", "access_key")
    assert [tuple(record[column] for column in columns) for record in records[1:]] == [
        ("PutObject", "/bucket/k", 200, "", 5, ACCESS_KEY),
        ("GetObject", "/bucket/k", 200, "", 0, ACCESS_KEY),
        ("GetObject", "/bucket/missing", 404, "NoSuchKey", 0, ACCESS_KEY),
    ]
    assert records[2]["bytes_out"] == 5

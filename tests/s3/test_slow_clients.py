"""Clients that are slow or stuck, on purpose or not: each is let go in the end, and holds little until then."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, LocalGateway, local_gateway, settings
from tests.s3.memory_engine import MemoryEngine
from tests.s3.wire import Wire

WHOLE = b"GET /_objstore/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def gateway() -> Iterator[LocalGateway]:
    with local_gateway(MemoryEngine(), settings(keep_alive_s=0.3, body_idle_s=0.3)) as running:
        yield running


@contextmanager
def connected(gateway: LocalGateway) -> Iterator[socket.socket]:
    with socket.create_connection((gateway.host, gateway.port), timeout=20) as connection:
        yield connection


def rest_of(connection: socket.socket) -> bytes:
    """Until the other side ends; a time-out of 20 s is a failure."""
    said = b""
    try:
        while piece := connection.recv(1 << 16):
            said += piece
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx-a"])
def test_a_head_that_does_not_come_ends_the_connection(gateway: LocalGateway, begun: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(begun)
        assert rest_of(connection) == b""


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nhost"])
def test_neither_does_a_second_head_that_does_not_come_hold_it(gateway: LocalGateway, begun: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(WHOLE + begun)
        assert rest_of(connection).startswith(b"HTTP/1.1 200")


def test_a_head_that_drips_does_not_hold_it_either(gateway: LocalGateway) -> None:
    """A byte now and then must not begin the time anew."""
    with connected(gateway) as connection:
        stop = threading.Event()

        def drip() -> None:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nx: ")
                while not stop.wait(0.05):
                    connection.sendall(b"y")
            except OSError:
                pass  # closed, as it should be

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert rest_of(connection) == b""
        finally:
            stop.set()
            dripping.join()


def test_a_document_that_stops_coming_times_out(gateway: LocalGateway) -> None:
    with Wire(gateway.host, gateway.port, ACCESS_KEY, SECRET_KEY) as wire:
        assert wire.request("PUT", "/bucket").status in (200, 409)
        vouched = {"content-length": "100", "x-amz-checksum-crc32": "AAAAAA=="}
        head, _ = wire.head("POST", "/bucket?delete", vouched, "0" * 64)
        wire.send(head + b"<Delete>")
        answer = wire.answer()
        assert (answer.status, answer.code) == (400, "RequestTimeout")
        assert wire.is_closed()


def test_a_body_that_drips_times_out(gateway: LocalGateway) -> None:
    """A byte now and then is less than what a connection that works at all brings."""
    with Wire(gateway.host, gateway.port, ACCESS_KEY, SECRET_KEY) as wire:
        assert wire.request("PUT", "/bucket").status in (200, 409)
        head, _ = wire.head("PUT", "/bucket/k", {"content-length": "100000"}, "UNSIGNED-PAYLOAD")
        wire.send(head)
        stop = threading.Event()

        def drip() -> None:
            try:
                while not stop.wait(0.05):
                    wire.send(b"y")
            except OSError:
                pass  # closed, as it should be

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert wire.answer().code == "RequestTimeout"
        finally:
            stop.set()
            dripping.join()


def test_chunks_of_a_body_that_stop_coming_time_out(gateway: LocalGateway) -> None:
    """Both framings at once: the chunked transfer encoding around aws-chunked, cut in the middle of a line."""
    with Wire(gateway.host, gateway.port, ACCESS_KEY, SECRET_KEY) as wire:
        assert wire.request("PUT", "/bucket").status in (200, 409)
        headers = {"transfer-encoding": "chunked", "x-amz-decoded-content-length": "5", "x-amz-trailer": ""}
        head, _ = wire.head("PUT", "/bucket/k", headers, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        wire.send(head + b"2\r\n5\r")
        assert wire.answer().code == "RequestTimeout"
        assert wire.is_closed()


def test_many_stuck_clients_do_not_keep_others_out(gateway: LocalGateway) -> None:
    stuck = [socket.create_connection((gateway.host, gateway.port), timeout=20) for _ in range(100)]
    try:
        for connection in stuck:
            connection.sendall(b"PUT /bucket/k HTTP/1.1\r\nhost: x\r\n")
        with Wire(gateway.host, gateway.port, ACCESS_KEY, SECRET_KEY) as wire:
            assert wire.request("GET", "/").status == 200
        assert [rest_of(connection) for connection in stuck] == [b""] * len(stuck)
    finally:
        for connection in stuck:
            connection.close()

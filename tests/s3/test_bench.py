"""The load of `objstore bench` against a gateway: it counts what happened, sees wrong bytes, leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import boto3
import msgspec
import pytest
from botocore.config import Config

from objstore.bench.model import Endpoint, Measured, Phase
from objstore.bench.processes import Workers, with_children
from objstore.bench.rebuild import Rebuilt, measure_repair
from objstore.bench.report import notes
from objstore.bench.session import Ended, Happening, Session
from objstore.cli.main import main
from objstore.model.errors import InvalidRequest
from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, local_gateway
from tests.s3.memory_engine import MemoryEngine

PHASE = Phase("put", 20_000, 4, 0.4, 0.1, verify=True)


@pytest.fixture(autouse=True)
def _few_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objstore.bench.session.FILL_BYTES", 2 << 20)


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def url(engine: MemoryEngine) -> Iterator[str]:
    with local_gateway(engine) as gateway:
        yield gateway.url


def endpoint(url: str) -> Endpoint:
    where = urlsplit(url)
    return Endpoint("here", where.hostname or "", where.port or 0, ACCESS_KEY, SECRET_KEY, REGION)


def buckets(url: str) -> list[str]:
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    return [one["Name"] for one in client.list_buckets()["Buckets"]]


def test_every_operation_is_measured_and_nothing_is_left(engine: MemoryEngine, url: str) -> None:
    async def run() -> list[Measured]:
        found = []
        async with Workers(2) as workers, Session(endpoint(url), workers, 2) as session:
            for name in ("put", "get", "range", "head", "list", "mixed", "delete"):
                phase = msgspec.structs.replace(PHASE, operation=name)
                happenings = [Happening(0.1, happen)] if name == "get" else []
                found.append(await session.measure(phase, lambda *_: None, happenings))
        return found

    async def happen() -> str:
        return "something happened"

    found = asyncio.run(run())
    for one in found:
        assert one.ops > 0 and not one.errors and not one.mismatches, one
        assert one.latency.p50 <= one.latency.p99 <= one.latency.longest
    by_name = {one.phase.operation: one for one in found}
    put, get, part = by_name["put"], by_name["get"], by_name["range"]
    assert put.bytes == put.ops * 20_000 and get.bytes == get.ops * 20_000 and part.bytes == part.ops * 2_500
    assert get.verified >= get.ops and [mark.text for mark in get.marks] == ["something happened"]
    assert by_name["list"].keys > 0
    assert buckets(url) == [] and engine.stored == {}


def test_wrong_bytes_are_seen(engine: MemoryEngine, url: str) -> None:
    async def run() -> Measured:
        phase = msgspec.structs.replace(PHASE, size=200_000)
        async with Workers(1) as workers, Session(endpoint(url), workers, 1) as session:
            await session.measure(phase, lambda *_: None)
            for blob, data in engine.stored.items():
                engine.stored[blob] = data[:-1] + bytes([data[-1] ^ 1])
            return await session.measure(msgspec.structs.replace(phase, operation="get"), lambda *_: None)

    found = asyncio.run(run())
    assert found.ops > 0 and 0 < found.mismatches <= found.verified


def test_a_phase_that_is_ended_early_says_what_it_has_measured_and_nothing_follows(url: str) -> None:
    async def run() -> Measured:
        phase = msgspec.structs.replace(PHASE, seconds=60.0)
        async with Workers(2) as workers, Session(endpoint(url), workers, 2) as session:
            found = await session.measure(phase, lambda *_: session.end_early())
            with pytest.raises(Ended):
                await session.measure(phase, lambda *_: None)
        return found

    found = asyncio.run(run())
    assert found.early and found.ops > 0 and found.seconds < 60
    assert buckets(url) == []


def test_a_phase_that_is_broken_off_leaves_no_load_behind(engine: MemoryEngine, url: str) -> None:
    async def run() -> None:
        phase = msgspec.structs.replace(PHASE, seconds=60.0)
        async with Workers(2) as workers, Session(endpoint(url), workers, 2) as session:
            task = asyncio.current_task()
            assert task is not None
            await session.measure(phase, lambda *_: task.cancel())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert buckets(url) == [] and engine.stored == {}


def test_operations_at_a_rate_begin_when_they_are_due(url: str) -> None:
    async def run() -> Measured:
        phase = msgspec.structs.replace(PHASE, operation="head", rate=40.0, seconds=1.0)
        async with Workers(2) as workers, Session(endpoint(url), workers, 2) as session:
            return await session.measure(phase, lambda *_: None)

    found = asyncio.run(run())
    assert 0 < found.ops < 100 and not found.errors  # as fast as it can it makes thousands


def test_the_speed_of_repair_is_what_the_cluster_says_and_gets_go_on_beside_it(url: str) -> None:
    said: list[Rebuilt] = [
        Rebuilt("waiting", 0, 0), *(Rebuilt("working", n, n << 20) for n in range(4)),
        Rebuilt("done", 5, 5 << 20, 2.0, "full redundancy"),
    ]  # fmt: skip

    async def harm() -> str:
        return "n8 killed"

    async def look() -> Rebuilt:
        return said.pop(0)

    async def run() -> Measured:
        phase = msgspec.structs.replace(PHASE, operation="repair", rate=100.0)
        async with Workers(2) as workers, Session(endpoint(url), workers, 2) as session:
            return await measure_repair(session, phase, lambda *_: None, harm, look)

    found = asyncio.run(run())
    assert (found.ops, found.bytes, found.seconds) == (5, 5 << 20, 2.0) and sum(
        one.bytes for one in found.series
    ) == 5 << 20
    assert [mark.text for mark in found.marks] == ["n8 killed", "repair begins", "full redundancy"]
    assert found.before is not None and found.before.p50 > 0 and found.latency.p50 > 0
    assert "GETs beside it" in "\n".join(notes(found)) and buckets(url) == []


def test_an_endpoint_that_refuses_is_said_so(url: str) -> None:
    async def run() -> None:
        wrong = msgspec.structs.replace(endpoint(url), secret="not it")
        async with Workers(1) as workers, Session(wrong, workers, 1):
            pass

    with pytest.raises(InvalidRequest, match="SignatureDoesNotMatch"):
        asyncio.run(run())


def test_the_command(url: str, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    with_keys = url.replace("://", f"://{ACCESS_KEY}:{quote(SECRET_KEY, safe='')}@")
    load = ["--operations", "put,get", "--size", "32KiB", "--concurrency", "2", "--duration", "0.3", "--warmup", "0",
            "--processes", "1"]  # fmt: skip
    path = tmp_path / "result.json"
    assert main(["bench", "run", with_keys, *load, "--verify", "--output", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "0 mismatches" in shown and SECRET_KEY not in shown + path.read_text()
    assert main(["bench", "report", str(path)]) == 0
    assert capsys.readouterr().out == shown
    assert main(["bench", "compare", with_keys, with_keys, *load, "--rounds", "2"]) == 0
    assert "A/B" in capsys.readouterr().out
    assert buckets(url) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "http://127.0.0.1:1"], "ACCESS_KEY:SECRET@"),
        (["run", "http://a:b@127.0.0.1:1", "--operations", "frob"], "no 'frob'"),
        (["run", "http://a:b@127.0.0.1:1", "--size", "big"], "sizes such as"),
        (["run", "http://a:b@127.0.0.1:1", "--kill", "n1@3"], "data folder"),
        (["run", "http://a:b@127.0.0.1:1", "--operations", "repair"], "data folder"),
        (["compare", *["http://a:b@127.0.0.1:1"] * 2, "--operations", "degraded"], "objstore bench run"),
        (["run", "http://a:b@127.0.0.1:1", "--rate", "-1"], "below 0"),
        (["run", "http://a:b@127.0.0.1:1", "--picture", "x.gif"], ".svg"),
        (["report", "pyproject.toml"], "not the result of a bench"),
    ],
)  # fmt: skip
def test_bad_input_is_said_what_to_do_about(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "run", "http://a:b@127.0.0.1:1"]) == 4
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a thing of Linux")
def test_what_a_process_started_counts_as_its_own() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        parent.stdout.readline()
        first, *others = with_children([parent.pid])
        assert first == parent.pid and len(others) == 1
        assert {first, *others} < set(with_children([os.getpid()]))
        parent.stdin.write(b"\n")
        parent.stdin.close()

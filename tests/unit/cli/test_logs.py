"""One log of many: order of time, choice by request, level and process; and what a line says of its request."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import sys
from pathlib import Path

import pytest

from objstore.cli import logging_lines, logs
from objstore.local.folder import Folder
from objstore.model.context import begin_request
from objstore.model.errors import InvalidRequest

LINES = {
    "n1": [("02", "info", "two", ""), ("04", "warning", "four", "AB")],
    "g1": [("01", "debug", "one", ""), ("03", "info", "three", "AB"), ("05", "error", "five", "CD")],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = Folder(tmp_path)
    folder.create()
    for name, lines in LINES.items():
        text = "Traceback: no JSON\n"
        for ts, level, event, request in lines:
            line = {"ts": ts, "level": level, "event": event, "node": name, "logger": "x"}
            text += json.dumps(line | ({"request_id": request} if request else {})) + "\n"
        folder.log_of(name).write_text(text)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    parser = argparse.ArgumentParser()
    logs.configure(parser)
    code = logs.run(parser.parse_args([*words, "--json"]))
    return code, [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]


def test_lines_are_chosen_and_come_in_order_of_time(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = f"--data={data}"
    assert shown(capsys, given) == (0, ["one", "two", "three", "four", "five"])
    assert shown(capsys, given, "--lines", "2") == (0, ["four", "five"])
    assert shown(capsys, given, "--level", "warning") == (0, ["four", "five"])
    assert shown(capsys, given, "--request", "ab") == (0, ["three", "four"])
    assert shown(capsys, given, "--request", "EF") == (1, [])
    assert shown(capsys, "n1", given) == (0, ["two", "four"])
    with pytest.raises(InvalidRequest, match="there are g1 n1"):
        shown(capsys, "n7", given)


def test_lines_of_other_clusters_come_from_stdin(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Folder(data).log_of("g1").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert shown(capsys, "-", "--request", "CD") == (0, ["five"])


def test_text_has_everything_in_one_line() -> None:
    line = {"ts": "1", "level": "info", "node": "n1", "event": "e", "logger": "x", "request_id": "AB", "traceback": "T"}
    assert logs.as_text(line).split() == ["1", "info", "n1", "e", "request_id=AB", "T"]


def test_a_line_names_the_request_that_it_was_written_for() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging_lines.JsonFormatter("g1"))
    log = logging.getLogger("tests.logs")
    log.propagate = False
    log.addHandler(handler)

    async def work(text: str) -> None:
        log.warning(text)

    async def request(name: str) -> None:
        mark = begin_request(name)
        await asyncio.create_task(work("inside"))
        late = asyncio.create_task(asyncio.sleep(0.01))
        late.add_done_callback(lambda task: log.warning("later"))
        mark.request_id = ""
        await late

    async def both() -> None:
        await asyncio.gather(request("AA"), request("BB"))
        log.warning("outside")

    asyncio.run(both())
    log.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted((line["event"], line.get("request_id", "")) for line in lines) == [
        ("inside", "AA"), ("inside", "BB"), ("later", ""), ("later", ""), ("outside", ""),
    ]  # fmt: skip

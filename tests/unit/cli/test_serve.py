"""`objstore serve` before it serves: flags, settings, log lines, and the lines about waiting."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import platform
import subprocess
import sys

import pytest

from objstore.cli import logging_lines, serve
from objstore.cli.roles import ROLES, Waiting, _reached_by, _with_port_of
from objstore.model.errors import ConfigError
from tests.sim.coordinator import ManualClock

SECRET = "0123456789abcdef"


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        ("coordinator", {"coordinator.data", "coordinator.listen"}),
        ("node", {"node.data", "node.listen", "node.name"}),
        ("gateway", {"gateway.listen"}),
        ("repairer", set()),
        ("all", {"node.data", "gateway.listen"}),
    ],
)
def test_flags_set_the_keys_of_their_role(role: str, keys: set[str]) -> None:
    arguments = parse("--role", role, "--data", "d", "--listen", "h:1", "--name", "x", "--coordinator", "c:2")
    assert set(serve.flags_of(arguments)) == keys | {"coordinator.address"}


def test_flags_that_are_not_given_set_nothing() -> None:
    assert serve.flags_of(parse("--role", "node")) == {}


def test_every_role_can_be_asked_for() -> None:
    for role in ROLES:
        assert serve.flags_of(parse("--role", role, "--zone", "z")) == {"node.zone": ("--zone", "z")}


def test_no_flag_takes_a_secret() -> None:
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    assert not [option for action in parser._actions for option in action.option_strings if "secret" in option]


def test_no_role_starts_without_the_secret_of_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OBJSTORE_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"cluster\.secret is not set, and role node needs it"):
        serve.read_config(parse("--role", "node"))


def test_check_prints_every_setting_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OBJSTORE_CLUSTER__SECRET", SECRET)
    assert serve.run(parse("--role", "node", "--check", "--zone", "z9")) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert rows["node.zone"] == ["z9", "flag", "--zone"]
    assert rows["cluster.code"] == ["4+2", "default"]
    assert rows["cluster.secret"] == ["(set)", "environment", "OBJSTORE_CLUSTER__SECRET"]
    assert SECRET not in shown


def test_a_json_line_has_the_fields_that_tools_rely_on() -> None:
    stream = io.StringIO()
    formatter = logging_lines.JsonFormatter("n1")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.info("a %s", "b\nc", extra={"request_id": "R1", "status": 200, "operation": ""})
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "info",
        "event": "a b\nc",
        "node": "n1",
        "logger": "test",
        "request_id": "R1",
        "status": 200,
    }
    assert second["level"] == "error" and "ValueError: x" in second["traceback"]


def test_a_text_line_has_the_same() -> None:
    record = logging.makeLogRecord({"msg": "done", "levelname": "INFO", "request_id": "R1"})
    assert logging_lines.TextFormatter("n1").format(record).endswith("info     n1  done  request_id=R1")


def test_logs_are_json_unless_they_go_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    before = logging.getLogger().handlers[:]
    level = logging.getLogger().level
    try:
        for stream, format, is_json in (
            (io.StringIO(), "auto", True),
            (Terminal(), "auto", False),
            (Terminal(), "json", True),
            (io.StringIO(), "text", False),
        ):
            logging_lines.set_up(format, "warning", "n1", stream)
            logging.getLogger("x").info("quiet")
            logging.getLogger("x").warning("loud")
            assert stream.getvalue().startswith("{") is is_json
            assert "quiet" not in stream.getvalue()
    finally:
        logging.captureWarnings(False)
        logging.basicConfig(handlers=before, force=True, level=level)


class _Writes(io.StringIO):
    """The text of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[str] = []

    def write(self, text: str) -> int:
        self.each.append(text)
        return len(text)


def test_lines_that_inform_are_written_together_and_none_is_lost_or_late() -> None:
    stream = _Writes()
    handler = logging_lines.Lines(stream)
    logger = logging.Logger("test")
    logger.addHandler(handler)

    async def main() -> None:
        logger.info("0")
        assert stream.each == ["0\n"], "nothing was written just before"
        logger.info("1")
        logger.info("2")
        assert stream.each[1:] == []
        await asyncio.sleep(3 * logging_lines.PAUSE_S)
        assert stream.each[1:] == ["1\n2\n"]
        logger.info("3")
        logger.info("4")
        logger.error("5")
        assert stream.each[2:] == ["3\n", "4\n5\n"]
        await asyncio.sleep(3 * logging_lines.PAUSE_S)
        logger.info("6")
        logger.info("7")

    asyncio.run(main())
    assert stream.each[4:] == ["6\n"]
    handler.flush()
    logger.info("8")
    assert stream.each[5:] == ["7\n", "8\n"]


def test_a_full_disk_ends_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    logger = logging.Logger("test")
    logger.addHandler(logging_lines.Lines(Full()))
    logger.error("x")


def test_waiting_is_reported_now_and_then_with_its_length_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    waiting = Waiting("the coordinator at h:1", clock)
    for _ in range(30):
        waiting.say("refused")
        clock.advance(0.25)
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the coordinator at h:1 since 3 s: refused",
        "waiting for the coordinator at h:1 since 6 s: refused",
    ]


def test_an_advertised_port_0_becomes_the_port_that_was_bound() -> None:
    assert _with_port_of("node1:0", "127.0.0.1:7701") == "node1:7701"
    assert _with_port_of("[::1]:0", "[::1]:7701") == "[::1]:7701"
    assert _with_port_of("node1:80", "127.0.0.1:7701") == "node1:80"


def test_roles_are_imported_without_what_only_one_of_them_needs() -> None:
    heavy = ("aiohttp", "lmdb", "gateway", "uvloop")
    code = f"import sys, objstore.cli.serve; print([module for module in {heavy} if module in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_gateway_is_reached_where_it_says_or_by_the_name_of_its_host() -> None:
    assert _reached_by("", "10.0.0.1:9000") == "10.0.0.1:9000"
    assert _reached_by("s3.inner:0", "0.0.0.0:9000") == "s3.inner:9000"
    assert _reached_by("s3.inner:80", "127.0.0.1:9000") == "s3.inner:80"
    assert _reached_by("", "0.0.0.0:9000") == f"{platform.node()}:9000"

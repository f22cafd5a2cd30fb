"""`objstore health` where no cluster is needed: runbooks, codes, and probes that fail."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from objstore.admin.codes import CODES
from objstore.cli import health
from objstore.cli.exporter import token_of
from objstore.config import load
from objstore.engine.types import Reach
from objstore.model.errors import ConfigError, InvalidRequest, Unavailable
from tests.s3.local_gateway import LocalGateway, local_gateway
from tests.s3.memory_engine import MemoryEngine

SECRET = "0123456789abcdef"


class CutOff(MemoryEngine):
    async def reach(self) -> Reach:
        return Reach(write="too few nodes")


@pytest.fixture
def gateway() -> Iterator[LocalGateway]:
    with local_gateway(CutOff()) as running:
        yield running


@pytest.fixture(autouse=True)
def nobody_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster was started by this user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for variable in ("OBJSTORE_DATA", "OBJSTORE_CONFIG", "OBJSTORE_CLUSTER__SECRET"):
        monkeypatch.delenv(variable, raising=False)


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    health.configure(parser)
    return health.run(parser.parse_args(words))


def test_a_runbook_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("node_down") == 0
    said = capsys.readouterr().out
    assert "no cluster was asked" in said and "objstore node replace" in said
    assert run("NODE_DOWN", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["severity"], found["holds"]) == ("NODE_DOWN", "warning", None)
    with pytest.raises(InvalidRequest, match="--codes"):
        run("NODE_DWON")
    with pytest.raises(ConfigError):
        run("NODE_DOWN", "--data", "/nowhere")


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--codes") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CODES)
    assert run("--codes", "--json") == 0
    assert [code["name"] for code in json.loads(capsys.readouterr().out)] == list(CODES)


def test_a_probe_says_what_the_gateway_said(gateway: LocalGateway, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--endpoint", gateway.url)
    assert [run(f"--{page}", *at) for page in ("live", "ready", "cluster", "cluster-read")] == [0, 0, 4, 0]
    said = capsys.readouterr()
    assert said.err == "too few nodes\n" and "too few" not in said.out
    assert run("--cluster", "--json", *at) == 4
    assert json.loads(capsys.readouterr().out) == {"ok": False, "text": "too few nodes"}


def test_a_gateway_that_is_not_there_fails_the_probe() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        run("--live", "--endpoint", "http://127.0.0.1:1")
    with pytest.raises(InvalidRequest, match="no URL"):
        run("--live", "--endpoint", "127.0.0.1:9000")


def test_the_address_comes_from_the_configuration(tmp_path: Path, gateway: LocalGateway) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(f'[gateway]\nlisten = "0.0.0.0:{gateway.port}"\n')
    assert run("--ready", "--config", str(path)) == 0
    path.write_text('[gateway]\nlisten = "0.0.0.0:0"\n')
    with pytest.raises(ConfigError, match="--endpoint"):
        run("--ready", "--config", str(path))


def test_the_token_does_not_give_the_secret_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(f'[cluster]\nsecret = "{SECRET}"\n')
    path.chmod(0o600)
    assert run("--token", "--config", str(path)) == 0
    token = capsys.readouterr().out.strip()
    assert token == token_of(load(path, {})) and SECRET not in token and len(token) == 40
    given = load(path, {"OBJSTORE_METRICS__TOKEN": "a-token-of-my-own"})
    assert token_of(given) == "a-token-of-my-own"

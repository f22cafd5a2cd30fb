"""`objstore config`: shows, checks, prints; and which cluster a command is about."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from objstore.cli.env import which_cluster
from objstore.cli.main import main
from objstore.model.errors import ConfigError

SECRET = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without clusters of whoever runs the tests."""
    for name in ("OBJSTORE_CONFIG", "OBJSTORE_DATA", "OBJSTORE_CLUSTER__SECRET", "OBJSTORE_CLUSTER__SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "cluster.toml"
    path.write_text(f'[cluster]\nname = "prod"\nsecret = "{SECRET}"\n[repair]\nout_after_s = 900\n')
    path.chmod(0o600)
    return str(path)


Shown = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(capsys: pytest.CaptureFixture[str]) -> Shown:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["config", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_show_says_every_value_and_where_it_comes_from(
    config: Shown, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBJSTORE_NODE__ZONE", "z9")
    code, out, _ = config("show", "--config", file, "--json")
    found = json.loads(out)
    assert code == 0 and SECRET not in out
    assert found["cluster.secret"] == {"value": "(set)", "origin": f"{file} line 3"}
    assert found["node.zone"] == {"value": "z9", "origin": "environment OBJSTORE_NODE__ZONE"}
    assert found["repair.heartbeat_s"] == {"value": "1", "origin": "default"}
    code, out, _ = config("show", "--config", file)
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert ["repair.out_after_s", "900", f"{file} line 5"] in lines and SECRET not in out


def test_check_finds_a_mistake_and_says_so_with_code_2(config: Shown, file: str) -> None:
    assert config("check", "--config", file)[0] == 0
    with open(file, "a") as more:
        more.write("out_after = 1\n")
    code, _, err = config("check", "--config", file)
    assert code == 2 and 'unknown key "out_after"' in err and "out_after_s" in err


def test_what_is_printed_needs_no_cluster_that_runs(config: Shown, file: str) -> None:
    for target in ("systemd", "compose", "image", "kubernetes", "alerts", "grafana"):
        code, out, _ = config("print", target, "--config", file)
        assert code == 0 and out.endswith("\n") and SECRET not in out
    code, out, _ = config("print", "systemd", "--role", "gateway", "--config", file)
    assert out.count("[Service]") == 1 and f"LoadCredential=cluster.toml:{file}\n" in out


def test_files_beside_the_configuration_are_handed_over_with_it(config: Shown, file: str) -> None:
    folder = Path(file).parent
    (folder / "s3.secret").write_text("0123456789abcdef0123")
    (folder / "s3.secret").chmod(0o600)
    with open(file, "a") as more:
        more.write('[[gateway.keys]]\naccess_key = "A"\nsecret_key_file = "s3.secret"\n')
        more.write(f'[metrics]\ntoken_file = "{folder / "s3.secret"}"\n')
    code, out, err = config("print", "systemd", "--role", "gateway", "--config", file)
    assert code == 0 and f"LoadCredential=s3.secret:{folder / 's3.secret'}\n" in out
    assert out.count("LoadCredential=") == 2
    assert f"note: {folder / 's3.secret'} must be readable by the user of the service" in err


def test_gateways_are_named_or_asked_for(config: Shown, file: str) -> None:
    code, out, _ = config("print", "haproxy", "--config", file, "--gateway", "10.0.0.1:9000", "--bind", ":443")
    assert code == 0 and "server g1 10.0.0.1:9000" in out and "bind :443\n" in out
    assert "tune.bufsize 278528 " in out and "le 262144\n" in out
    code, out, _ = config("print", "haproxy", "--config", file, "--gateway", "10.0.0.1:9000", "--repeat", "1MiB")
    assert code == 0 and "tune.bufsize 1064960 " in out and "le 1048576\n" in out
    code, _, err = config("print", "haproxy", "--config", file, "--coordinator", "127.0.0.1:1")
    assert code == 4 and "--gateway HOST:PORT" in err


def test_a_role_that_this_cluster_has_not_is_refused(config: Shown, file: str) -> None:
    with open(file, "a") as more:
        more.write('[coordinator]\nkind = "etcd"\nendpoints = ["http://10.0.0.9:2379"]\n')
    code, _, err = config("print", "systemd", "--role", "coordinator", "--config", file)
    assert code == 2 and "etcd" in err


# --- which cluster


def named(**given: str) -> argparse.Namespace:
    return argparse.Namespace(**{"config": None, "data": None, **given})


def test_a_command_is_about_the_cluster_that_is_named_most_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="not both"):
        which_cluster(named(config="a.toml", data="b"))
    with pytest.raises(ConfigError, match="no cluster has been started"):
        which_cluster(named())
    monkeypatch.setenv("OBJSTORE_CLUSTER__SECRET", SECRET)  # as in a container: the environment says it all
    assert which_cluster(named()) == (None, None)
    monkeypatch.setenv("OBJSTORE_DATA", "d")
    found = which_cluster(named())
    assert found.folder is not None and found.folder.path.name == "d"
    monkeypatch.setenv("OBJSTORE_CONFIG", "c.toml")
    assert which_cluster(named()) == (None, Path("c.toml"))
    found = which_cluster(named(data="b"))
    assert found.folder is not None and found.folder.path.name == "b"
    assert which_cluster(named(config="a.toml")) == (None, Path("a.toml"))

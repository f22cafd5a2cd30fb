"""The configuration: sources and their order, secrets, and errors that say what to do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from objstore.config import Config, load
from objstore.config.kinds import parse_size, show_size
from objstore.config.sections import SECTION_TYPES, AccessKey, kinds_of, names_of
from objstore.model.cluster import ErasureCode
from objstore.model.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "cluster.example.toml"
SECRET = "0123456789abcdef"


def write(folder: Path, text: str, *, name: str = "cluster.toml", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_secret_that_systemd_keeps_for_this_process_is_taken_as_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path, f'[cluster]\nsecret = "{SECRET}"\n', mode=0o440)
    with pytest.raises(ConfigError, match="others may use it"):
        load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "elsewhere")})
    assert load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).cluster.secret == SECRET


def refused(folder: Path, text: str, **env: str) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as error:
        load(path, env)
    return str(error.value).replace(str(folder), "")


# --- the example -----------------------------------------------------------------------------------------------


def test_the_example_explains_every_key_and_has_no_other() -> None:
    text = EXAMPLE.read_text()
    tables = {name: names_of(kind) for name, kind in SECTION_TYPES.items()} | {"gateway.keys": names_of(AccessKey)}
    for table, names in tables.items():
        part = text.partition(f"\n[{table}]" if table != "gateway.keys" else "\n[[gateway.keys]]")[2]
        assert part, f"[{table}] is missing"
        part = part.partition("\n[")[0]
        for name in names:
            if (table, name) != ("gateway", "keys"):
                assert re.search(rf"^(# )?{name} = ", part, re.MULTILINE), f"{table}.{name} is missing"


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("replace me", "replaced").replace("data = ", "# data = ")
    text = text.partition("[[gateway.keys]]")[0] + "[repair]" + text.partition("[repair]")[2]
    found = load(write(tmp_path, text), {})
    shown = {row.key: row.value for row in found.describe()}
    defaults = {row.key: row.value for row in Config().describe()}
    assert {key for key in shown if shown[key] != defaults[key]} == {"cluster.secret"}


def test_the_secrets_of_the_example_are_refused(tmp_path: Path) -> None:
    assert "not the text of the example" in refused(tmp_path, EXAMPLE.read_text())


# --- sources ---------------------------------------------------------------------------------------------------


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, '[node]\nname = "file"\nzone = "file"\nlisten = "file:1"\n')
    env = {"OBJSTORE_NODE__NAME": "env", "OBJSTORE_NODE__ZONE": "env", "OTHER": "x"}
    found = load(path, env, {"node.name": ("--name", "flag")})
    assert (found.node.name, found.node.zone, found.node.listen) == ("flag", "env", "file:1")
    assert found.node.reserve == 1 << 30
    origins = {row.key: row.origin for row in found.describe()}
    assert origins["node.name"] == "flag --name"
    assert origins["node.zone"] == "environment OBJSTORE_NODE__ZONE"
    assert origins["node.listen"] == f"{path} line 4"
    assert origins["node.reserve"] == "default"


def test_without_a_file_everything_can_come_from_the_environment() -> None:
    env = {
        "OBJSTORE_CLUSTER__SECRET": SECRET,
        "OBJSTORE_CLUSTER__CODE": "2+1",
        "OBJSTORE_NODE__CAPACITY": "10GiB",
        "OBJSTORE_REPAIR__OUT_AFTER_S": "15.5",
        "OBJSTORE_GATEWAY__WORKERS": "2",
        "OBJSTORE_GATEWAY__KEYS": "one:secret-of-one two:secret:of:two",
    }
    found = load(None, env)
    assert found.cluster.secret == SECRET
    assert found.cluster.code == ErasureCode(2, 1)
    assert found.node.capacity == 10 << 30
    assert found.repair.out_after_s == 15.5
    assert found.gateway.workers == 2
    assert found.gateway.keys == (AccessKey("one", "secret-of-one"), AccessKey("two", "secret:of:two"))


def test_access_keys_come_from_tables(tmp_path: Path) -> None:
    text = '[[gateway.keys]]\naccess_key = "a"\nsecret_key = "12345678"\n' * 2
    found = load(write(tmp_path, text.replace('"a"', '"b"', 1)), {})
    assert [pair.access_key for pair in found.gateway.keys] == ["b", "a"]


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[node]\ndata = "d"\n[coordinator]\ndata = "/abs"\n')
    assert load(path, {}).node.data == tmp_path / "d"
    assert load(path, {}).coordinator.data == Path("/abs")
    assert load(path, {"OBJSTORE_NODE__DATA": "d"}).node.data == Path("d")
    assert load(path, {}, {"node.data": ("--data", "e")}).node.data == Path("e")


def test_sizes_are_read_and_shown() -> None:
    for text, size in {
        "0": 0,
        "10GiB": 10 << 30,
        "1.5 MiB": 3 << 19,
        "500MB": 500_000_000,
        "7b": 7,
        "2k": None,
    }.items():
        if size is None:
            with pytest.raises(ValueError):
                parse_size(text)
        else:
            assert parse_size(text) == size
            assert parse_size(show_size(size)) == size
    assert parse_size(4096) == 4096
    assert (show_size(3 << 40), show_size(1000)) == ("3TiB", "1000B")


def test_every_value_is_shown_so_that_it_reads_back_as_itself(tmp_path: Path) -> None:
    env = {"OBJSTORE_NODE__CAPACITY": "5GiB", "OBJSTORE_REPAIR__BANDWIDTH": "1MB", "OBJSTORE_LOG__LEVEL": "debug"}
    found = load(None, env)
    again = {
        "OBJSTORE_" + row.key.replace(".", "__").upper(): row.value
        for row in found.describe()
        if row.value not in ("", "(set)", "(not set)")
    }
    assert load(None, again) == found


# --- what is wrong is said, with the way out -------------------------------------------------------------------


def test_unknown_names_are_refused_with_their_place_and_a_guess(tmp_path: Path) -> None:
    assert refused(tmp_path, '\n[node]\n# a comment\nnmae = "x"\n') == (
        '/cluster.toml line 4: unknown key "nmae" in [node]; did you mean "name"?'
    )
    assert refused(tmp_path, "[nodes]\n") == '/cluster.toml line 1: unknown section [nodes]; did you mean "node"?'
    assert "line 5" in refused(
        tmp_path, '[[gateway.keys]]\naccess_key = "a"\nsecret_key = "12345678"\n[[gateway.keys]]\nsecret = "x"\n'
    )
    assert refused(tmp_path, "", OBJSTORE_NODE__NMAE="x") == (
        'environment: unknown variable OBJSTORE_NODE__NMAE; did you mean "OBJSTORE_NODE__NAME"?'
    )
    assert "known are: format, level" in refused(tmp_path, "[log]\nxyzzy = 1\n")


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ('cluster.code = "4"', "k+m"),
        ('cluster.code = "0+1"', "k+m"),
        ("cluster.partition_bits = 17", "a whole number from 1 to 16"),
        ("cluster.partition_bits = true", "a whole number from 1 to 16"),
        ("cluster.partition_bits = 1.5", "a whole number from 1 to 16"),
        ('cluster.codec = "rs"', "one of auto, isal, zfec"),
        ('coordinator.address = "host"', "HOST:PORT"),
        ('coordinator.address = "host:99999"', "HOST:PORT"),
        ("coordinator.listen = 7700", "HOST:PORT"),
        ('node.name = "a b"', "letters, digits"),
        ('node.capacity = "lots"', 'or "auto"'),
        ('node.reserve = "-1GiB"', 'a size such as "10GiB"'),
        ("node.reserve = -1", 'a size such as "10GiB"'),
        ('node.data = ""', "the path of a folder"),
        ('gateway.domain = "-x"', "a domain"),
        ("gateway.workers = 0", "a whole number from 1 to 64"),
        ("repair.heartbeat_s = 0", "a number of seconds, at least 0.05"),
        ("repair.heartbeat_s = nan", "a number of seconds"),
        ('repair.bandwidth = "none"', 'or "unlimited"'),
        ('log.level = "loud"', "one of debug, info, warning, error"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(tmp_path: Path, line: str, allowed: str) -> None:
    key, _, value = line.partition(" = ")
    section, _, name = key.partition(".")
    text = refused(tmp_path, f"[{section}]\n{name} = {value}\n")
    assert text.startswith(f"/cluster.toml line 2: {key} = ")
    assert allowed in text


def test_values_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    assert "write at least 6" in refused(tmp_path, "[cluster]\ninitial_nodes = 5\n")
    assert "first down, then out" in refused(tmp_path, "[repair]\nout_after_s = 1\n")
    assert "between two heartbeats" in refused(tmp_path, "[repair]\nheartbeat_s = 9\n")
    assert "must rise: a node warns first" in refused(tmp_path, "[node]\nnearfull = 92\n")
    assert "must rise: a node warns first" in refused(tmp_path, "[node]\nfull = 96\n")


def test_a_file_that_is_not_toml_or_not_there_is_named(tmp_path: Path) -> None:
    assert "/cluster.toml: this is not TOML" in refused(tmp_path, "[node\n")
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.toml", {})


def test_sections_of_the_wrong_form_are_refused(tmp_path: Path) -> None:
    assert "node is a section" in refused(tmp_path, "node = 1\n")
    assert "under its own [[gateway.keys]]" in refused(tmp_path, '[gateway.keys]\naccess_key = "a"\n')
    assert "secret_key is not set" in refused(tmp_path, '[[gateway.keys]]\naccess_key = "a"\n')
    twice = '[[gateway.keys]]\naccess_key = "a"\nsecret_key = "12345678"\n' * 2
    assert "access_key 'a' is given to more than one" in refused(tmp_path, twice)


# --- secrets ---------------------------------------------------------------------------------------------------


def test_a_secret_comes_from_a_file_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, SECRET + "\n", name="secret")
    write(tmp_path, "12345678\n", name="key")
    path = write(
        tmp_path,
        '[cluster]\nsecret_file = "secret"\n[[gateway.keys]]\naccess_key = "a"\nsecret_key_file = "key"\n',
        mode=0o644,
    )
    found = load(path, {})
    assert found.cluster.secret == SECRET
    assert found.gateway.keys == (AccessKey("a", "12345678"),)
    by_env = load(None, {"OBJSTORE_CLUSTER__SECRET_FILE": str(tmp_path / "secret")})
    assert by_env.cluster.secret == SECRET


def test_a_file_with_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    own = write(tmp_path, f'[cluster]\nsecret = "{SECRET}"\n', mode=0o640)
    with pytest.raises(ConfigError, match=rf"others may use it \(mode 0640\)\. Run: chmod 600 {re.escape(str(own))}"):
        load(own, {})
    own.chmod(0o600)
    assert load(own, {}).cluster.secret == SECRET

    beside = write(tmp_path, SECRET, name="secret", mode=0o604)
    with pytest.raises(ConfigError, match=f"Run: chmod 600 {re.escape(str(beside))}"):
        load(write(tmp_path, '[cluster]\nsecret_file = "secret"\n'), {})

    keys = write(tmp_path, '[[gateway.keys]]\naccess_key = "a"\nsecret_key = "12345678"\n', mode=0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(keys, {})


def test_a_file_without_a_secret_may_be_read_by_all(tmp_path: Path) -> None:
    assert load(write(tmp_path, '[node]\nname = "a"\n', mode=0o644), {}).node.name == "a"


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, SECRET, name="secret")
    both = f'[cluster]\nsecret = "{SECRET}"\nsecret_file = "secret"\n'
    assert "cluster.secret is given more than once" in refused(tmp_path, both)
    one = f'[cluster]\nsecret = "{SECRET}"\n'
    text = refused(tmp_path, one, OBJSTORE_CLUSTER__SECRET=SECRET)
    assert "environment OBJSTORE_CLUSTER__SECRET and /cluster.toml line 2" in text
    keys = '[[gateway.keys]]\naccess_key = "a"\nsecret_key = "12345678"\n'
    assert "given more than once" in refused(tmp_path, keys, OBJSTORE_GATEWAY__KEYS="a:12345678")


def test_a_secret_on_the_command_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="not on a command line"):
        load(None, {}, {"cluster.secret": ("--secret", SECRET)})


def test_secrets_appear_in_no_message_and_no_description(tmp_path: Path) -> None:
    weak = "hunter2"
    assert weak not in refused(tmp_path, f'[cluster]\nsecret = "{weak}"\n')
    text = f'[cluster]\nsecret = "{SECRET}"\n[[gateway.keys]]\naccess_key = "a"\nsecret_key = "the-key-of-a"\n'
    found = load(write(tmp_path, text), {})
    for shown in (repr(found), str(found.describe())):
        assert SECRET not in shown and "the-key-of-a" not in shown
    assert {row.value for row in found.describe() if "secret" in row.key} == {"(set)"}
    assert next(row.value for row in Config().describe() if row.key == "cluster.secret") == "(not set)"


def test_keys_to_encrypt_with_come_from_a_file_or_the_environment_and_are_not_shown(tmp_path: Path) -> None:
    keys = "new:" + "A" * 43 + "=\nold:" + "B" * 42 + "A="
    path = write(tmp_path, '[encryption]\nkeys_file = "keys"\n')
    (tmp_path / "keys").write_text(keys)
    (tmp_path / "keys").chmod(0o600)
    for found in (load(path, {}), load(None, {"OBJSTORE_ENCRYPTION__KEYS": keys})):
        ring = found.encryption.keys
        assert ring is not None and ring.current == "new" and set(ring.keys) == {"new", "old"}
        shown = repr(found) + repr(found.describe())
        assert "AAAA" not in shown and repr(ring.keys["old"]) not in shown
        assert next(row.value for row in found.describe() if row.key == "encryption.keys") == "(set)"
    (tmp_path / "keys").chmod(0o644)
    with pytest.raises(ConfigError, match="others may use it"):
        load(path, {})
    assert "BBBB" not in refused(tmp_path, '[encryption]\nkeys = "x:BBBB"\n')


def test_every_key_has_an_environment_variable(tmp_path: Path) -> None:
    """None of them is refused as unknown; a wrong value is refused by name."""
    for section, kind in SECTION_TYPES.items():
        for name in kinds_of(kind):
            variable = f"OBJSTORE_{section}__{name}".upper()
            with pytest.raises(ConfigError, match=f"environment {variable}: {section}.{name} = "):
                load(None, {variable: "\n" if name != "data" else ""})
    assert "OBJSTORE_NODE__NAME" not in os.environ


# --- the coordinator -------------------------------------------------------------------------------------------


ETCD = '[coordinator]\nkind = "etcd"\nendpoints = ["https://a:2379/", "https://[::1]:2379"]\n'


def test_etcd_has_endpoints_from_a_list_or_from_text(tmp_path: Path) -> None:
    wanted = ("https://a:2379", "https://[::1]:2379")
    assert load(write(tmp_path, ETCD), {}).coordinator.endpoints == wanted
    env = {
        "OBJSTORE_COORDINATOR__KIND": "etcd",
        "OBJSTORE_COORDINATOR__ENDPOINTS": "https://a:2379, https://[::1]:2379",
        "OBJSTORE_COORDINATOR__USER": "me",
        "OBJSTORE_COORDINATOR__PASSWORD": "x",
    }
    found = load(None, env).coordinator
    assert (found.endpoints, found.user, found.password) == (wanted, "me", "x")
    assert "'x'" not in repr(found)


def test_keys_of_the_other_kind_of_coordinator_are_refused(tmp_path: Path) -> None:
    assert 'line 4: coordinator.data is for coordinator.kind = "embedded", but it is "etcd"' in refused(
        tmp_path, ETCD + 'data = "d"\n'
    )
    embedded = '[coordinator]\nendpoints = ["http://a:2379"]\n'
    assert 'line 2: coordinator.endpoints is for coordinator.kind = "etcd"' in refused(tmp_path, embedded)
    assert load(write(tmp_path, "[coordinator]\nendpoints = []\n"), {}).coordinator.kind == "embedded"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[coordinator]\nkind = "etcd"\n', "needs the addresses of its members"),
        ('[coordinator]\nkind = "consul"\n', "one of embedded, etcd"),
        (ETCD.replace("https://a:2379/", "a:2379"), "different URLs such as"),
        (ETCD.replace("https://a:2379/", "https://[::1]:2379"), "different URLs such as"),
        (ETCD + 'tls_cert = "c.pem"\n', "tls_cert and coordinator.tls_key belong together"),
        (ETCD.replace("https", "http") + 'tls_ca = "c.pem"\n', "no URL of coordinator.endpoints begins with https:"),
        (ETCD + 'user = "me"\n', "user and coordinator.password belong together"),
    ],
)
def test_an_etcd_that_cannot_be_reached_so_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


# --- targets of notifications ----------------------------------------------------------------------------------


def test_targets_of_notifications_come_from_tables_and_the_environment(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[notify.on-orders]\nurl = "https://h.example/e?a=b"\nsecret_file = "hook"\n[notify.plain]\nurl = "http://[::1]:1"\n',
    )
    write(tmp_path, "the secret of it\n", name="hook")
    found = load(path, {"OBJSTORE_NOTIFY__EXTRA__URL": "http://x", "OBJSTORE_NOTIFY__PLAIN__SECRET": "from outside"})
    assert [(one.name, one.url, one.secret) for one in found.notify] == [
        ("extra", "http://x", ""),
        ("on-orders", "https://h.example/e?a=b", "the secret of it"),
        ("plain", "http://[::1]:1", "from outside"),
    ]
    shown = {row.key: row for row in found.describe()}
    assert shown["notify.on-orders.url"].value == "https://h.example/e?a=b"
    assert shown["notify.plain.secret"].origin == "environment OBJSTORE_NOTIFY__PLAIN__SECRET"
    assert "the secret of it" not in repr(found) + repr(list(shown.values()))
    assert load(path, {"OBJSTORE_NOTIFY__ON_ORDERS__URL": "http://y"}).notify[0].url == "http://y"


@pytest.mark.parametrize(
    ("text", "env", "words"),
    [
        ("[notify.a]\n", {}, "url is not set"),
        ('[notify]\nurl = "http://h"\n', {}, "under its own"),
        ('[notify.a]\nurl = "ftp://h"\n', {}, "notify.a.url"),
        ('[notify.a]\nurl = "http://u:p@h"\n', {}, "without a user"),
        ('[notify.a]\nurl = "http://h:0"\n', {}, "notify.a.url"),
        ('[notify.a]\nurl = "http://h:x"\n', {}, "notify.a.url"),
        ('[notify.a]\nurl = "http://h"\nsecret = "short"\n', {}, "at least 8"),
        ('[notify.a]\nurl = "http://h"\nsecrets = "x"\n', {}, "unknown key"),
        ('[notify."A B"]\nurl = "http://h"\n', {}, "no name of a target"),
        ('[notify.a-b]\nurl = "http://h"\n[notify.a_b]\nurl = "http://h"\n', {}, "differ in"),
        ("", {"OBJSTORE_NOTIFY__A__ULR": "http://h"}, "unknown variable"),
        ("", {"OBJSTORE_NOTIFY__URL": "http://h"}, "unknown variable"),
        ("", {"OBJSTORE_NOTIFY__A__SECRET": "long enough"}, "url is not set"),
    ],
)
def test_a_target_that_cannot_be_is_refused(tmp_path: Path, text: str, env: dict[str, str], words: str) -> None:
    assert words in refused(tmp_path, text, **env)

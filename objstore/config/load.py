"""Reading the configuration: flags, then environment, then the file, then defaults; the first that has a key wins.

- An unknown section, key or OBJSTORE_ variable is an error: a typing mistake must not mean "the default".
- A secret comes from the file, from a file of its own (`x_file`) or from the environment, never from a flag, and
  from one of them only. A file that holds one and that others may read is refused.
- An error names the place, the key, the value (not of a secret) and what is allowed.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from objstore.config.kinds import FILE, FOLDER, Kind
from objstore.config.sections import (
    ENV_PREFIX,
    SECTION_TYPES,
    AccessKey,
    Config,
    NotifyTarget,
    env_name,
    kinds_of,
    names_of,
)
from objstore.model.errors import ConfigError

_TABLE = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]")
NOTIFY = "notify"
_NOTIFY_PREFIX = f"{ENV_PREFIX}NOTIFY__"
_TARGET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ASSIGNMENT = re.compile(r"\s*([\w-]+)\s*=")


class Given(NamedTuple):
    """A value before it is checked. `folder`: what a relative path is relative to (None: where we run)."""

    value: object
    origin: str
    folder: Path | None = None


def load(path: Path | None, env: Mapping[str, str], flags: Mapping[str, tuple[str, str]] | None = None) -> Config:
    """path None: no file. flags: dotted key -> (the flag as typed, its value). Raises ConfigError."""
    return _Load(path, env, flags or {}).run()


class _Load:
    """One load: the sources, and the origins found on the way."""

    def __init__(self, path: Path | None, env: Mapping[str, str], flags: Mapping[str, tuple[str, str]]) -> None:
        self._path = path
        self._env = env
        self._flags = flags
        self._origins: dict[str, str] = {}
        self._secret_in_file = False
        text = _read(path, "the configuration file") if path else ""
        try:
            self._tables: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: this is not TOML: {error}") from error
        self._lines = _line_numbers(text)

    def run(self) -> Config:
        self._refuse_unknown()
        sections = {section: self._section(section) for section in SECTION_TYPES}
        if self._path and self._secret_in_file:
            _refuse_if_others_may_read(self._path, self._env)
        config = Config(**sections, notify=self._notify(), origins=self._origins)
        _check_together(config)
        return config

    # --- unknown names ---

    def _refuse_unknown(self) -> None:
        for section, table in self._tables.items():
            if section == NOTIFY:
                continue  # its keys are names
            if section not in SECTION_TYPES:
                hint = _hint(section, (*SECTION_TYPES, NOTIFY))
                raise ConfigError(f"{self._place(section)}: unknown section [{section}]{hint}")
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{self._place(section)}: {section} is a section; write [{section}] and its keys below"
                )
            self._refuse_unknown_keys(section, table, names_of(SECTION_TYPES[section]))
        known = sorted(
            env_name(f"{section}.{name}") for section, kind in SECTION_TYPES.items() for name in names_of(kind)
        )
        for variable in sorted(self._env):
            if variable.startswith(_NOTIFY_PREFIX):
                continue
            if variable.startswith(ENV_PREFIX) and "__" in variable and variable not in known:
                raise ConfigError(f"environment: unknown variable {variable}{_hint(variable, known)}")

    def _refuse_unknown_keys(self, table_name: str, table: Mapping[str, Any], known: list[str]) -> None:
        for name in table:
            if name not in known:
                place = self._place(f"{table_name}.{name}")
                raise ConfigError(f'{place}: unknown key "{name}" in [{table_name}]{_hint(name, known)}')

    # --- values ---

    def _section(self, section: str) -> Any:
        table = self._tables.get(section, {})
        values = {}
        for name, kind in kinds_of(SECTION_TYPES[section]).items():
            key = f"{section}.{name}"
            given = self._secret(key, table) if kind.secret else self._plain(key, table)
            if given is not None:
                values[name] = self._take(key, given, kind)
        if section == "gateway":
            values["keys"] = self._access_keys(table)
        return SECTION_TYPES[section](**values)

    def _plain(self, key: str, table: Mapping[str, Any]) -> Given | None:
        return self._from_flags(key) or self._from_env(key) or self._from_file(key, table)

    def _secret(self, key: str, table: Mapping[str, Any], *, env: bool = True) -> Given | None:
        if key in self._flags:
            raise ConfigError(f"{key} is a secret: not on a command line, which every user of the machine can read")
        in_file = self._from_file(key, table)
        direct = [self._from_env(key) if env else None, in_file]
        by_file = [self._from_env(f"{key}_file") if env else None, self._from_file(f"{key}_file", table)]
        given = [one for one in (*direct, *by_file) if one is not None]
        if len(given) > 1:
            raise ConfigError(f"{key} is given more than once: {' and '.join(one.origin for one in given)}; keep one")
        if not given:
            return None
        self._secret_in_file |= in_file is not None
        if given[0] in direct:
            return given[0]
        path = self._take(f"{key}_file", given[0], FILE)
        _refuse_if_others_may_read(path, self._env)
        return Given(_read(path, f"the file of {key}").strip(), f"{given[0].origin}: {path}")

    def _access_keys(self, gateway: Mapping[str, Any]) -> tuple[AccessKey, ...]:
        """From [[gateway.keys]], or from OBJSTORE_GATEWAY__KEYS as ACCESS:SECRET pairs with blanks between."""
        key = "gateway.keys"
        from_env = self._from_env(key)
        tables = gateway.get("keys", [])
        if from_env is not None:
            if tables:
                raise ConfigError(f"{key} is given more than once: {from_env.origin} and {self._place(key)}; keep one")
            pairs = [pair.partition(":") for pair in str(from_env.value).split()]
            tables = [{"access_key": access, "secret_key": secret} for access, _, secret in pairs]
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ConfigError(f"{self._place(key)}: write each access key under its own [[gateway.keys]]")
        found = [self._access_key(f"{key}[{i}]", table, from_env) for i, table in enumerate(tables)]
        names = [pair.access_key for pair in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"{self._place(key)}: access_key {twice[0]!r} is given to more than one of [[gateway.keys]]"
            )
        return tuple(found)

    def _notify(self) -> tuple[NotifyTarget, ...]:
        """From [notify.NAME], or OBJSTORE_NOTIFY__NAME__URL and __SECRET; `-` of a name is `_` in a variable."""
        tables = self._tables.get(NOTIFY, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise ConfigError(f"{self._place(NOTIFY)}: write each target under its own [{NOTIFY}.NAME]")
        known = [name for name in names_of(NotifyTarget) if name != "name"]
        by_variable = {name.replace("-", "_").upper(): name for name in tables}
        for variable in sorted(self._env):
            if not variable.startswith(_NOTIFY_PREFIX):
                continue
            name, _, key = variable.removeprefix(_NOTIFY_PREFIX).rpartition("__")
            if key.lower() not in known or not name:
                raise ConfigError(f"environment: unknown variable {variable}{_hint(key.lower(), known)}")
            by_variable.setdefault(name, name.lower())
        if len(by_variable) < len(tables):
            raise ConfigError(f"{self._place(NOTIFY)}: two targets differ in `-` and `_` only; rename one")
        return tuple(self._target(name, tables.get(name, {}), known) for name in sorted(by_variable.values()))

    def _target(self, name: str, table: Mapping[str, Any], known: list[str]) -> NotifyTarget:
        place = f"{NOTIFY}.{name}"
        if not _TARGET_NAME.fullmatch(name):
            rule = "1 to 63 lower-case letters, digits, '_' or '-', beginning with a letter or digit"
            raise ConfigError(f"{self._place(place)}: {name!r} is no name of a target: write {rule}")
        self._refuse_unknown_keys(place, table, known)
        values = {}
        for key, kind in kinds_of(NotifyTarget).items():
            given = self._secret(f"{place}.{key}", table) if kind.secret else self._plain(f"{place}.{key}", table)
            if given is not None:
                values[key] = self._take(f"{place}.{key}", given, kind)
        if "url" not in values:
            raise ConfigError(f"{self._place(place)}: url is not set; each target of notifications needs one")
        return NotifyTarget(name, **values)

    def _access_key(self, place: str, table: Mapping[str, Any], from_env: Given | None) -> AccessKey:
        self._refuse_unknown_keys(place, table, names_of(AccessKey))
        values = {}
        for name, kind in kinds_of(AccessKey).items():
            key = f"{place}.{name}"
            if from_env is not None:
                given: Given | None = Given(table[name], from_env.origin)
            elif kind.secret:
                given = self._secret(key, table, env=False)
            else:
                given = self._from_file(key, table)
            if given is None:
                raise ConfigError(f"{self._place(place)}: {name} is not set; each of [[gateway.keys]] needs one")
            values[name] = self._take(key, given, kind)
        return AccessKey(**values)

    def _take(self, key: str, given: Given, kind: Kind) -> Any:
        try:
            value = kind.parse(given.value)
        except ValueError:
            shown = "(a secret)" if kind.secret else repr(given.value)
            raise ConfigError(f"{given.origin}: {key} = {shown} is not allowed: write {kind.allowed}") from None
        self._origins[key] = given.origin
        if kind in (FILE, FOLDER):
            return (given.folder or Path()) / value
        return value

    # --- sources ---

    def _from_flags(self, key: str) -> Given | None:
        if key not in self._flags:
            return None
        flag, value = self._flags[key]
        return Given(value, f"flag {flag}")

    def _from_env(self, key: str) -> Given | None:
        variable = env_name(key.replace("-", "_"))
        return Given(self._env[variable], f"environment {variable}") if variable in self._env else None

    def _from_file(self, key: str, table: Mapping[str, Any]) -> Given | None:
        name = key.rpartition(".")[2]
        if name not in table or self._path is None:
            return None
        return Given(table[name], self._place(key), self._path.parent)

    def _place(self, key: str) -> str:
        line = self._lines.get(key)
        return f"{self._path} line {line}" if line else f"{self._path}"


def _check_together(config: Config) -> None:
    """What holds between keys."""
    code, nodes = config.cluster.code, config.cluster.initial_nodes
    if 0 < nodes < code.nodes_min:
        raise ConfigError(
            f"cluster.initial_nodes = {nodes} is too few for code {code}: write at least {code.nodes_min}, "
            f"so that every shard and every replica has a node of its own; or 0 for just that many"
        )
    _check_coordinator(config)
    node = config.node
    if not node.nearfull < node.full <= node.backfill_full:
        raise ConfigError(
            f"node.nearfull = {node.nearfull}, node.full = {node.full} and node.backfill_full = {node.backfill_full} "
            f"must rise: a node warns first, then takes no new data, then nothing from repair either"
        )
    repair = config.repair
    if repair.out_after_s < repair.down_after_s:
        raise ConfigError(
            f"repair.out_after_s = {repair.out_after_s:g} is before repair.down_after_s = {repair.down_after_s:g}: "
            f"a node is first down, then out"
        )
    if repair.down_after_s < repair.heartbeat_s:
        raise ConfigError(
            f"repair.down_after_s = {repair.down_after_s:g} is below repair.heartbeat_s = {repair.heartbeat_s:g}: "
            f"healthy nodes would count as down between two heartbeats"
        )


def _check_coordinator(config: Config) -> None:
    section = config.coordinator
    of_etcd = ("endpoints", "tls_ca", "tls_cert", "tls_key", "user", "password")
    foreign = ("address", "listen", "data") if section.kind == "etcd" else of_etcd
    for name in foreign:
        key = f"coordinator.{name}"
        if key in config.origins and getattr(section, name):
            other = "embedded" if section.kind == "etcd" else "etcd"
            raise ConfigError(
                f'{config.origins[key]}: {key} is for coordinator.kind = "{other}", but it is "{section.kind}": '
                "change the kind, or remove the key"
            )
    if section.kind != "etcd":
        return
    if not section.endpoints:
        raise ConfigError(
            'coordinator.kind = "etcd" needs the addresses of its members: write endpoints = '
            '["https://10.0.0.5:2379", ...] under [coordinator], or set OBJSTORE_COORDINATOR__ENDPOINTS'
        )
    if (section.tls_cert is None) != (section.tls_key is None):
        raise ConfigError("coordinator.tls_cert and coordinator.tls_key belong together: write both, or neither")
    if section.tls_ca and not any(url.startswith("https:") for url in section.endpoints):
        raise ConfigError("coordinator.tls_ca is set, but no URL of coordinator.endpoints begins with https:")
    if bool(section.user) != bool(section.password):
        raise ConfigError("coordinator.user and coordinator.password belong together: write both, or neither")


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error


def _refuse_if_others_may_read(path: Path, env: Mapping[str, str]) -> None:
    given = env.get("CREDENTIALS_DIRECTORY")  # systemd shows its readers as a group, though only one user is among them
    if given and path.is_relative_to(given):
        return
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConfigError(f"{path} holds a secret and others may use it (mode {mode:04o}). Run: chmod 600 {path}")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are: {', '.join(known)}"


def _line_numbers(text: str) -> dict[str, int]:
    """Dotted key -> line of its first appearance. By look of the lines, for messages only."""
    found: dict[str, int] = {}
    arrays: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = header[2]
            found.setdefault(table, number)
            if header[1]:
                arrays[table] = arrays.get(table, -1) + 1
                table = f"{table}[{arrays[table]}]"
                found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault(f"{table}.{assignment[1]}" if table else assignment[1], number)
    return found

"""Every configuration key: its section, default and kind. `cluster.example.toml` explains each. Pure.

An empty default means "not set"; a role that cannot do without says so by `missing`.
"""
# ruff: noqa: RUF009 (_key makes a dataclasses.field)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from objstore.config.kinds import (
    ADDRESS,
    BANDWIDTH,
    CAPACITY,
    CLUSTER_ID,
    CLUSTER_SECRET,
    CODE,
    DOMAIN,
    FILE,
    FOLDER,
    KEY_RING,
    METRICS_TOKEN,
    NAME,
    OPTIONAL_ADDRESS,
    OPTIONAL_NAME,
    PASSWORD,
    S3_SECRET,
    SCRUB,
    SIZE,
    URLS,
    WEBHOOK,
    WEBHOOK_SECRET,
    Kind,
    count,
    one_of,
    seconds,
)
from objstore.model import limits
from objstore.model.cluster import ErasureCode
from objstore.model.errors import ConfigError
from objstore.model.sealed import KeyRing
from objstore.model.survey import Budget

ENV_PREFIX = "OBJSTORE_"


def _key(default: Any, kind: Kind) -> Any:
    return field(default=default, metadata={"kind": kind}, repr=not kind.secret)


@dataclass(frozen=True, slots=True)
class ClusterSection:
    """What all processes share. The first map fixes code and partition_bits for good."""

    name: str = _key("objstore", NAME)
    secret: str = _key("", CLUSTER_SECRET)
    code: ErasureCode = _key(ErasureCode(4, 2), CODE)
    initial_nodes: int = _key(0, count(0, 10_000))  # 0 = as many as the code needs
    partition_bits: int = _key(limits.PARTITION_BITS, count(1, limits.PARTITION_BITS_MAX))
    codec: str = _key("auto", one_of("auto", "isal", "zfec"))


@dataclass(frozen=True, slots=True)
class CoordinatorSection:
    """embedded: `address` is for all roles, `listen` and `data` for the coordinator itself. etcd: the rest, for all."""

    kind: str = _key("embedded", one_of("embedded", "etcd"))
    address: str = _key("127.0.0.1:7700", ADDRESS)
    listen: str = _key("127.0.0.1:7700", ADDRESS)
    data: Path | None = _key(None, FOLDER)
    cluster_id: str = _key("", CLUSTER_ID)  # of the cluster whose coordinator was lost; "" = a new one
    endpoints: tuple[str, ...] = _key((), URLS)  # of the members of etcd
    tls_ca: Path | None = _key(None, FILE)  # None = the certification authorities of the system
    tls_cert: Path | None = _key(None, FILE)
    tls_key: Path | None = _key(None, FILE)
    user: str = _key("", OPTIONAL_NAME)
    password: str = _key("", PASSWORD)


@dataclass(frozen=True, slots=True)
class NodeSection:
    """One storage process and its data folder."""

    name: str = _key("", OPTIONAL_NAME)  # "" = the host's
    zone: str = _key("default", NAME)
    data: Path | None = _key(None, FOLDER)
    listen: str = _key("127.0.0.1:7701", ADDRESS)
    advertise: str = _key("", OPTIONAL_ADDRESS)  # "" = where it listens
    capacity: int = _key(0, CAPACITY)  # bytes; 0 = the size of the file system
    nearfull: int = _key(85, count(1, 100))  # percent
    full: int = _key(92, count(1, 100))
    backfill_full: int = _key(95, count(1, 100))
    reserve: int = _key(limits.GIB, SIZE)
    quarantine: int = _key(limits.GIB, SIZE)
    quarantine_days: int = _key(30, count(1, 3650))
    scrub: int = _key(16 * limits.MIB, SCRUB)  # bytes/s; 0 = none


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Who may speak S3 to the gateways."""

    access_key: str = _key("", NAME)
    secret_key: str = _key("", S3_SECRET)


@dataclass(frozen=True, slots=True)
class GatewaySection:
    listen: str = _key("127.0.0.1:9000", ADDRESS)
    advertise: str = _key("", OPTIONAL_ADDRESS)  # "" = where it listens, by the host's name if that is everywhere
    region: str = _key("us-east-1", NAME)
    workers: int = _key(1, count(1, 64))
    domain: str = _key("", DOMAIN)
    stop_notice_s: float = _key(5.0, seconds(0.0))
    stop_timeout_s: float = _key(30.0, seconds(0.0))
    keys: tuple[AccessKey, ...] = ()


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """[notify.NAME]: a webhook that event notifications may go to. Of gateways and repairers."""

    name: str
    url: str = _key("", WEBHOOK)
    secret: str = _key("", WEBHOOK_SECRET)  # "" = messages are not signed


@dataclass(frozen=True, slots=True)
class EncryptionSection:
    """Of gateways."""

    keys: KeyRing | None = _key(None, KEY_RING)  # None = only objects with a key of the client are encrypted


@dataclass(frozen=True, slots=True)
class RepairSection:
    """When a node counts as failed, and how much repair may take."""

    heartbeat_s: float = _key(1.0, seconds(0.05))
    down_after_s: float = _key(5.0, seconds(0.1))
    out_after_s: float = _key(600.0, seconds(0.1))
    bandwidth: Budget = _key("auto", BANDWIDTH)  # bytes/s
    garbage_delay_s: float = _key(60.0, seconds(0.1))


@dataclass(frozen=True, slots=True)
class LifecycleSection:
    """How often rules of buckets are carried out, by repairers; and how long their days are, for gateways too."""

    interval_s: float = _key(3600.0, seconds(0.1))
    day_s: float = _key(86_400.0, seconds(0.1))


@dataclass(frozen=True, slots=True)
class LogSection:
    format: str = _key("auto", one_of("auto", "text", "json"))
    level: str = _key("info", one_of("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True)
class MetricsSection:
    listen: str = _key("", OPTIONAL_ADDRESS)  # of every process; "" = only gateways show metrics
    gateway: str = _key("token", one_of("token", "open", "off"))
    token: str = _key("", METRICS_TOKEN)  # "" = made from cluster.secret


class Setting(NamedTuple):
    key: str
    value: str  # as one would write it; of a secret only "(set)" or "(not set)"
    origin: str  # default | FILE line N | environment VARIABLE | flag --x


@dataclass(frozen=True, slots=True)
class Config:
    cluster: ClusterSection = field(default_factory=ClusterSection)
    coordinator: CoordinatorSection = field(default_factory=CoordinatorSection)
    node: NodeSection = field(default_factory=NodeSection)
    gateway: GatewaySection = field(default_factory=GatewaySection)
    encryption: EncryptionSection = field(default_factory=EncryptionSection)
    repair: RepairSection = field(default_factory=RepairSection)
    lifecycle: LifecycleSection = field(default_factory=LifecycleSection)
    notify: tuple[NotifyTarget, ...] = ()
    log: LogSection = field(default_factory=LogSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def lease_ttl_s(self) -> float:
        """Whoever misses three heartbeats in a row has lost its lease."""
        return 3 * self.repair.heartbeat_s

    def describe(self) -> list[Setting]:
        """The effective value of every key, and where it comes from."""
        tables = [(name, getattr(self, name)) for name in SECTION_TYPES]
        tables += [(f"gateway.keys[{index}]", pair) for index, pair in enumerate(self.gateway.keys)]
        tables += [(f"notify.{target.name}", target) for target in self.notify]
        return [
            Setting(key, kind.show(getattr(values, name)), self.origins.get(key, "default"))
            for table, values in tables
            for name, kind in kinds_of(type(values)).items()
            for key in (f"{table}.{name}",)
        ]


SECTION_TYPES: dict[str, type] = {
    "cluster": ClusterSection,
    "coordinator": CoordinatorSection,
    "node": NodeSection,
    "gateway": GatewaySection,
    "encryption": EncryptionSection,
    "repair": RepairSection,
    "lifecycle": LifecycleSection,
    "log": LogSection,
    "metrics": MetricsSection,
}


def kinds_of(section: type) -> dict[str, Kind]:
    """The plain keys of a section, in order."""
    return {item.name: item.metadata["kind"] for item in fields(section) if "kind" in item.metadata}


def names_of(section: type) -> list[str]:
    """What may be written in a section's table: its keys, and for a secret also the name of its file."""
    names = [item.name for item in fields(section)]
    return names + [f"{name}_file" for name, kind in kinds_of(section).items() if kind.secret]


def env_name(key: str) -> str:
    """The environment variable of a dotted key."""
    return ENV_PREFIX + key.replace(".", "__").upper()


def missing(key: str, role: str) -> ConfigError:
    """The error for a key that a role cannot do without."""
    section, _, name = key.partition(".")
    return ConfigError(
        f"{key} is not set, and role {role} needs it. Write `{name} = ...` under [{section}] in the configuration "
        f"file, or set {env_name(key)}."
    )

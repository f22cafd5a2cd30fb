"""Where the coordinator of a configuration is, as data and in words. Loads neither asyncio nor aiohttp."""

from __future__ import annotations

from objstore.cluster.etcd_access import EtcdAccess
from objstore.config import Config


def etcd_access(config: Config) -> EtcdAccess:
    section = config.coordinator
    return EtcdAccess(
        section.endpoints,
        f"/objstore/{config.cluster.name}/",
        section.tls_ca,
        section.tls_cert,
        section.tls_key,
        section.user,
        section.password,
    )


def place_of(config: Config) -> str:
    """ "the coordinator at HOST:PORT", for messages."""
    section = config.coordinator
    if section.kind == "embedded":
        return f"the coordinator at {section.address}"
    return f"etcd at {', '.join(section.endpoints)}"

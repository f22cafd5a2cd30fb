"""Which coordinator a configuration names, how it is spoken to, and which cluster it says this is.

With etcd nobody starts as the coordinator, so a node makes the cluster's identity: the first that comes; or any whose
data folder has one, which is how a cluster goes on whose etcd lost everything. Gateways and repairers have nothing to
know it by, so they wait for a node. aiohttp is loaded only where the coordinator is etcd.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os

from objstore.cli.whereabouts import etcd_access, place_of
from objstore.cluster.embedded import RemoteCoordinator
from objstore.cluster.port import CLUSTER_KEY, Coordinator
from objstore.config import Config
from objstore.model.errors import Fatal, Unavailable
from objstore.ports import Clock, Transport

log = logging.getLogger(__name__)

WAITING_LINE_S = 3.0  # between two lines that say what we wait for
WAITING_RETRY_S = 0.25


def coordinator_of(config: Config, transport: Transport) -> Coordinator:
    """The caller closes it, before the transport. Raises ConfigError."""
    if config.coordinator.kind == "embedded":
        return RemoteCoordinator(transport, config.coordinator.address)
    from objstore.cluster.etcd import EtcdCoordinator

    return EtcdCoordinator(etcd_access(config), first=os.getpid())  # so that not all begin with the same member


async def cluster_id_of(coordinator: Coordinator, config: Config, clock: Clock, *, founding: str = "") -> str:
    """Waits for the coordinator. `founding`: the id that the cluster gets if etcd knows none; "": wait for it."""
    waiting = Waiting(place_of(config), clock)
    is_etcd = config.coordinator.kind == "etcd"
    while True:
        try:
            entry = await coordinator.get(CLUSTER_KEY)
            if entry is not None:
                found = str(json.loads(entry.value)["id"])
                return _checked(found, config) if is_etcd else found
            if is_etcd and founding:
                identity = json.dumps({"id": config.coordinator.cluster_id or founding, "name": config.cluster.name})
                await coordinator.put(CLUSTER_KEY, identity.encode(), expected=0)
                continue  # whoever was first
            waiting.say("no node has come yet" if is_etcd else "it does not know its cluster")
        except Unavailable as error:
            waiting.say(str(error))
        await asyncio.sleep(WAITING_RETRY_S)


def _checked(found: str, config: Config) -> str:
    wanted = config.coordinator.cluster_id
    if wanted and wanted != found:
        raise Fatal(
            f"etcd holds the cluster {found}, but coordinator.cluster_id says {wanted}: remove what is under "
            f"/objstore/{config.cluster.name}/ in etcd to have that cluster go on there, or leave it away"
        )
    return found


def wrong_cluster(config: Config, ours: str, theirs: str) -> Fatal:
    """For a node whose data folder belongs to another cluster than the coordinator's."""
    text = f"this data folder belongs to cluster {ours}, but {place_of(config)} is that of cluster {theirs}. "
    if config.coordinator.kind == "etcd":
        return Fatal(
            f"{text}Give the node the right coordinator.endpoints and cluster.name; or, if the data of etcd were lost "
            f"and a new cluster was begun in it, remove what is under /objstore/{config.cluster.name}/ there, start "
            "this node first, and then run: objstore recover"
        )
    return Fatal(
        f"{text}Give the node the right coordinator.address; or, if the coordinator's folder was lost, start the "
        f"coordinator with an empty folder and coordinator.cluster_id = {ours}, and then run: objstore recover"
    )


class Waiting:
    """Says every few seconds for whom we wait, since when and why."""

    def __init__(self, whom: str, clock: Clock) -> None:
        self._whom = whom
        self._clock = clock
        self._since = self._said = clock.monotonic()

    def say(self, why: str) -> None:
        now = self._clock.monotonic()
        if now - self._said >= WAITING_LINE_S:
            self._said = now
            log.warning("waiting for %s since %.0f s: %s", self._whom, now - self._since, why)

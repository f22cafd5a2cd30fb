"""The map as the cluster remembers it, for a coordinator that lost it: an etcd that is empty, or came back from a copy.

Every map that a process knows was published and is a step of one history (INV-15), so the latest one that anybody who
lives has seen is put back before anything is done on the word of the coordinator. Who remembers none, because all were
started anew since, cannot help: then it takes `objstore recover`.
"""

from __future__ import annotations

import logging

from objstore.cluster.directory import Directory
from objstore.cluster.port import MAP_KEY, Coordinator, Entry
from objstore.engine.peers import Peers
from objstore.model.cluster import decode_map

log = logging.getLogger(__name__)


async def put_back(coordinator: Coordinator, directory: Directory, peers: Peers, shown: Entry | None) -> bool:
    """`shown`: the map as the coordinator has it. True: it was an earlier one and is replaced, or changed just now."""
    await directory.refresh()
    await peers.ask_everybody()
    if directory.topology is None:
        return False
    known, raw = directory.topology.map, directory.raw_map
    if shown is not None:
        found = decode_map(shown.value)
        if found.cluster_id != known.cluster_id or found.progress >= known.progress:
            return False
    if await coordinator.put(MAP_KEY, raw, expected=shown.revision if shown else 0) is not None:
        what = f"layout {decode_map(shown.value).newest.epoch}" if shown else "no map"
        log.warning("the coordinator had %s: layout %d, which is later, is put back", what, known.newest.epoch)
    return True

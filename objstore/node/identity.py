"""Which node this data folder is.

Written twice: in `identity.json`, for people and for the cluster check, and in the key-value store beside the
promises that were given under that name. A node whose store is gone has forgotten its promises, so it must never
vote as the same acceptor again: its fragments are indexed anew and it takes a new id (design, section 6). With the
id its record journal becomes that of a former life, which `objstore.node.lost` keeps for recovery.

    file   store          meaning
    -      -              a new node (or everything but volumes and records is lost: the volumes are scanned)
    -      id             the file was lost: written again
    id     -              the store was lost: new id, index rebuilt
    id     same id        the usual start
    id     another id     parts of two nodes were mixed: Fatal
"""

from __future__ import annotations

import json
import logging

import msgspec

from objstore.model import formats
from objstore.model.errors import Fatal
from objstore.model.ids import NodeId
from objstore.node.rebuild import rebuild_index
from objstore.ports import KV, Disk

logger = logging.getLogger(__name__)

FILE = "identity.json"
TABLE = "node"
_KEY = b"identity"
_WHAT = "this data folder of a node"
FORMAT = 1  # of all that is in the folder: volumes, index, journals; a later one of any of them raises this too


class Identity(msgspec.Struct, frozen=True):
    node_id: NodeId
    cluster_id: str
    partition_bits: int
    format: int = FORMAT


def peek(disk: Disk) -> str:
    """Blocking, before anything else in the folder is read: the cluster that it belongs to, or "" if it has no identity
    that can be read. Raises Fatal when a later release made it."""
    if not disk.exists(FILE):
        return ""
    try:
        return formats.decode_json(disk.read_file(FILE), Identity, _WHAT, FORMAT).cluster_id
    except msgspec.DecodeError:
        return ""  # `establish` says what is wrong with it


def establish(disk: Disk, kv: KV, cluster_id: str, partition_bits: int, fresh_id: NodeId) -> Identity:
    """Blocking, once, at start: find out who we are, or become someone. Raises Fatal."""
    filed = _parse(disk.read_file(FILE), FILE) if disk.exists(FILE) else None
    row = kv.get(TABLE, _KEY)
    stored = None if row is None else _parse(row, "the index")
    for found in (filed, stored):
        if found is not None:
            _check(found, cluster_id, partition_bits)
    if stored is not None:
        if filed is not None and filed.node_id != stored.node_id:
            raise Fatal(
                f"{FILE} says node {filed.node_id}, the index says node {stored.node_id}: this data folder was put "
                "together from two nodes. Bring back the matching index, or move the index away to start as a new node."
            )
        if filed is None:
            disk.write_file(FILE, _encode(stored))
        return stored
    identity = Identity(fresh_id, cluster_id, partition_bits)
    rebuilt = rebuild_index(disk, kv, cluster_id, 1 << partition_bits)
    if filed is not None or rebuilt.volumes:
        logger.warning(
            "The index of node %s was lost. %d fragments (%d bytes) in %d volumes are indexed again, %d places were "
            "damaged. It has forgotten its promises, so the node starts with the new id %s and takes the place of the "
            "old one; what its record journal holds is kept until the cluster no longer needs it.",
            filed.node_id if filed else "(unknown)",
            rebuilt.fragments,
            rebuilt.bytes,
            rebuilt.volumes,
            rebuilt.damaged,
            fresh_id,
        )
    disk.write_file(FILE, _encode(identity))
    kv.commit([(TABLE, _KEY, _encode(identity))])  # last: until here the next start begins again
    return identity


def _check(found: Identity, cluster_id: str, partition_bits: int) -> None:
    if found.cluster_id != cluster_id:
        raise Fatal(
            f"This data folder belongs to cluster {found.cluster_id}, but the node is configured for {cluster_id}; "
            "give it the folder of this cluster, or an empty one."
        )
    if found.partition_bits != partition_bits:
        raise Fatal(
            f"This data folder was made for 2^{found.partition_bits} partitions, but the cluster has "
            f"2^{partition_bits}; that number never changes in the life of a cluster, so the folder is not its own."
        )


def _encode(identity: Identity) -> bytes:
    return json.dumps(msgspec.to_builtins(identity), indent=1).encode() + b"\n"


def _parse(raw: bytes, where: str) -> Identity:
    try:
        return formats.decode_json(raw, Identity, _WHAT, FORMAT)
    except msgspec.DecodeError as error:
        raise Fatal(
            f"The identity of this node in {where} cannot be read ({error}). Bring the file back from a copy, or move "
            "the data folder away and start with an empty one: the cluster repairs what is missing."
        ) from error

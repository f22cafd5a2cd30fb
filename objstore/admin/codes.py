"""Every health code: how bad it is, what it means, what to do. Pure.

A code is stable: programs, alerts and people know it by name. Codes are added, never renamed. What to do in detail
is the section of that title in `HEALTH.md` beside this file (a test holds the two together).

error: requests fail, or data are in danger. warning: something is missing or wrong, nothing fails. info: worth knowing,
though every node is up and every object whole; alone it leaves the cluster HEALTHY.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]


class Code(NamedTuple):
    name: str
    severity: Severity
    meaning: str  # one line
    next: str  # a command to type


_ALL = (
    Code("NODE_DOWN", "warning", "a node does not answer, or its lease has ended", "objstore watch"),
    Code("NODE_LATE", "warning", "a node holds its lease, but does not answer in time", "objstore watch"),
    Code("NODE_OUT", "warning", "a node was given up; its data are rebuilt on the others", "objstore node list"),
    Code("NODE_FULL", "warning", "a node takes no new data; others stand in for it", "objstore node list"),
    Code("NODE_NEARFULL", "warning", "a node is nearly full", "objstore node list"),
    Code("CLUSTER_FULL", "error", "too few nodes take new data: writes are refused", "objstore node list"),
    Code("MAP_NEARFULL", "warning", "the metadata index of a node is nearly full", "objstore node list"),
    Code("FSYNC_SLOW", "info", "a disk takes long to make writes durable", "objstore node list"),
    Code("CLOCK_SKEW", "warning", "the clock of a process differs from those of the others", "timedatectl"),
    Code("VERSION_MIXED", "warning", "processes of different versions run", "objstore status"),
    Code("QUORUM_LOST", "error", "more nodes are gone than the erasure code survives", "objstore node list"),
    Code("WRITE_QUORUM_LOST", "error", "too few nodes are up to write; reads go on", "objstore node list"),
    Code("GATEWAY_DOWN", "error", "no gateway answers", "objstore status"),
    Code("COORDINATOR_DOWN", "error", "the coordinator cannot be asked; reads and writes go on", "objstore status"),
    Code("REPAIRER_DOWN", "warning", "no repairer is in charge", "objstore status"),
    Code("VIEW_STALE", "warning", "it is not known whether data are as redundant as they were", "objstore watch"),
    Code("REDUNDANCY_LOW", "warning", "objects miss shards, or metadata replicas", "objstore watch"),
    Code("OBJECT_UNREADABLE", "error", "objects cannot be read now", "objstore damage list"),
    Code("SHARD_CORRUPT", "warning", "damaged shards were found and are not rebuilt yet", "objstore damage list"),
    Code("REPAIR_BLOCKED", "warning", "repair has work, and cannot do it", "objstore repair status"),
    Code("REPAIR_FAILED", "error", "repair tried all it can, and could not", "objstore repair failed"),
    Code("REPAIR_ERRORS", "warning", "some items could not be repaired, again and again", "objstore repair failed"),
    Code("REPAIR_STALLED", "warning", "repair has work and gets nothing done", "objstore repair status"),
    Code("REPAIR_PAUSED", "warning", "repair is paused by an operator", "objstore repair resume"),
    Code("SCRUB_LATE", "warning", "a node has not read back what it holds for too long", "objstore scrub status"),
    Code("SCRUB_PAUSED", "info", "reading back is paused by an operator", "objstore scrub resume"),
    Code("NOTIFY_FAILING", "warning", "a target of event notifications does not take them", "objstore notify status"),
    Code("BUCKET_QUOTA", "info", "a bucket has used its quota up, or nearly", "objstore bucket list"),
    Code("METADATA_SYNC", "warning", "metadata move to another layout", "objstore watch"),
    Code("METADATA_LOST", "error", "too much metadata is lost for repair", "objstore recover"),
    Code("RECOVERY_UNFINISHED", "error", "a recovery of the metadata was interrupted", "objstore recover --yes"),
    Code("CLUSTER_FORMING", "warning", "there is no cluster map yet", "objstore status"),
)

CODES = {code.name: code for code in _ALL}


def severity_of(name: str) -> Severity:
    return CODES[name].severity

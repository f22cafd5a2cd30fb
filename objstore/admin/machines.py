"""Reasons that are about machines and processes, not about data: clocks, disks, indexes, versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from objstore.admin import figures
from objstore.admin.status import Reason
from objstore.model.cluster import GatewayLease, NodeLease

SKEW_S = 5.0
SYNC_SLOW_MS = 1000
INDEX_NEARFULL = 0.8


def skews_s(nodes: Sequence[NodeLease], clocks: Mapping[str, int]) -> dict[str, float]:
    """By node id, each clock minus the median of all: whoever asks may be the one that is wrong. `clocks`: what each
    address said, in ms, relative to the clock of whoever asked."""
    found = {node.id: clocks[node.address] for node in nodes if node.address in clocks}
    middle = sorted(found.values())[len(found) // 2] if found else 0  # `statistics` is slow to import
    return {node: (offset - middle) / 1000 for node, offset in found.items()}


def machine_reasons(
    nodes: Sequence[NodeLease], others: Sequence[GatewayLease], clocks: Mapping[str, int]
) -> list[Reason]:
    reasons = []
    skews = skews_s(nodes, clocks)
    if wrong := {node.name: skews[node.id] for node in nodes if abs(skews.get(node.id, 0.0)) > SKEW_S}:
        shown = ", ".join(f"{name} is {_ahead(seconds)}" for name, seconds in sorted(wrong.items()))
        reasons.append(Reason("CLOCK_SKEW", f"clocks differ: {shown}"))
    for node in sorted(nodes, key=lambda node: node.name):
        where = f"{node.name} (zone {node.zone})"
        if node.sync_ms > SYNC_SLOW_MS:
            took = figures.duration(node.sync_ms / 1000)
            reasons.append(Reason("FSYNC_SLOW", f"{where} takes {took} to make a write durable"))
        if node.index_size_bytes and node.index_used_bytes > INDEX_NEARFULL * node.index_size_bytes:
            used, size = figures.size(node.index_used_bytes), figures.size(node.index_size_bytes)
            reasons.append(Reason("MAP_NEARFULL", f"{where}: {used} of {size} of its metadata index used"))
    versions = sorted({node.version for node in nodes} | {other.version for other in others})
    if len(versions) > 1:
        reasons.append(Reason("VERSION_MIXED", f"processes of different versions: {', '.join(versions)}"))
    return reasons


def _ahead(seconds: float) -> str:
    return f"{figures.duration(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"

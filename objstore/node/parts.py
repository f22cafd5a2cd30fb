"""The stores of a node, put together on its data folder and recovered, in the one order in which that is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from objstore.model.ids import NodeId
from objstore.node import register_rows
from objstore.node.commit import GroupCommit
from objstore.node.compaction import Compactor
from objstore.node.fragments import FragmentStore
from objstore.node.identity import Identity
from objstore.node.journal import Journal
from objstore.node.lost import LostRecords
from objstore.node.pace import Pace
from objstore.node.registers import RegisterStore
from objstore.node.sealed import SealedKV
from objstore.node.space import Room, Space
from objstore.node.volumes import Volumes
from objstore.ports import Clock, Disk


@dataclass(slots=True)
class Demand:
    calls: int = 0  # for which somebody outside the cluster waited


class Parts(NamedTuple):
    node_id: NodeId
    kv: SealedKV
    volumes: Volumes
    records: Journal
    space: Space
    commits: GroupCommit
    registers: RegisterStore
    fragments: FragmentStore
    lost: LostRecords
    compactor: Compactor
    demand: Demand

    @property
    def is_busy(self) -> bool:
        """Somebody waits for the disk."""
        return self.commits.is_busy or self.fragments.budget.is_used


def recover(
    found: Identity,
    disk: Disk,
    kv: SealedKV,
    clock: Clock,
    records: Journal,
    volumes: Volumes,
    commits: GroupCommit,
    room: Room,
    paging: Pace,
) -> Parts:
    """Blocking, once, at start. `paging`: of reading pages of registers."""
    partitions = 1 << found.partition_bits
    lost = LostRecords(disk, found.cluster_id, found.node_id, partitions)
    space = Space(
        disk,
        clock,
        volumes,
        kv,
        lambda: records.size_bytes + lost.size_bytes,
        room,
    )
    registers = RegisterStore(kv, commits, space, partitions, paging)
    fragments = FragmentStore(kv, volumes, commits, space, clock, found.cluster_id, partitions)
    ahead = records.recover(kv)
    if ahead:
        kv.commit([*register_rows.caught_up(kv, ahead), records.end_row])
    lost.recover()
    registers.recover()
    fragments.recover()
    compactor = Compactor(kv, records, commits, lambda: registers.live_bytes)
    return Parts(found.node_id, kv, volumes, records, space, commits, registers, fragments, lost, compactor, Demand())

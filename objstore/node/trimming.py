"""Which layout a copy may be trimmed by: none that is older than one under which a copy here was found to be at home.

Before the surplus copy of a shard is deleted, the one at home is verified under the epoch of the layout that says so.
From then on this node, which may have to keep its copy, refuses trims of older layouts: one that was sent by a repairer
that was paused, or long on its way, would else take a copy that has become the only one. Durable, so that a restart
forgets nothing. Deletions on proof that nobody needs the blob (INV-7) know no epoch.
"""

from __future__ import annotations

import struct

from objstore.model.errors import StaleEpoch
from objstore.node.commit import GroupCommit
from objstore.ports import KV

TABLE = "trim"
_KEY = b"epoch"
_ROW = struct.Struct(">BQ")  # format, epoch
_FORMAT = 1


class TrimFence:
    def __init__(self, kv: KV, commits: GroupCommit) -> None:
        self._kv = kv
        self._commits = commits
        self._epoch = 0

    def recover(self) -> None:
        row = self._kv.get(TABLE, _KEY)
        self._epoch = _ROW.unpack(row)[1] if row is not None else 0

    async def raise_to(self, epoch: int) -> None:
        """Durable on return."""
        if epoch > self._epoch:
            await self._commits.submit([(TABLE, _KEY, _ROW.pack(_FORMAT, epoch))])
            self._epoch = max(self._epoch, epoch)

    def check(self, epoch: int) -> None:
        """For a trim; hold the claim on the fragment."""
        if epoch < self._epoch:
            raise StaleEpoch(f"a trim by layout {epoch} is refused: this node has seen layout {self._epoch}")

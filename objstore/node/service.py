"""The node as others see it: one handler per message, over the stores of this package.

`open_node` puts them together from a data folder and starts the one periodic task. Not here: configuration, network,
the lease in the coordinator (`objstore.cli`), and every decision about which node should hold what.

After a failure of its disk the node refuses everything (`on_fatal` is how its process learns that it must end).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from objstore.model import limits
from objstore.model.errors import Fatal, InvalidRequest, ObjstoreError
from objstore.model.ids import NodeId
from objstore.node import identity, index, register_rows
from objstore.node.commit import GroupCommit
from objstore.node.fragments import FragmentStore
from objstore.node.registers import RegisterStore
from objstore.node.space import Space
from objstore.node.streams import Streams
from objstore.node.volumes import VOLUME_BYTES, Volumes
from objstore.ports import KV, Buffer, Clock, Disk, Random
from objstore.wire import messages as msg
from objstore.wire.messages import NodeStatsReply, Pong, Reply, Request

logger = logging.getLogger(__name__)

TABLES = (identity.TABLE, *index.TABLES, *register_rows.TABLES)  # of the key-value store of a node
TICK_S = 10.0

_Handler: TypeAlias = Callable[[Any, Buffer], Awaitable[tuple[Reply, Buffer]]]


async def open_node(
    disk: Disk,
    kv: KV,
    clock: Clock,
    random: Random,
    *,
    cluster_id: str,
    name: str,
    zone: str,
    capacity_bytes: int,
    reserve_bytes: int,
    partition_bits: int = limits.PARTITION_BITS,
    volume_bytes: int = VOLUME_BYTES,
    on_fatal: Callable[[Fatal], None] = lambda fatal: None,
) -> NodeService:
    """Start on a data folder: recover, or begin. `kv` must have TABLES. Raises Fatal when the folder is not ours."""
    fresh_id = NodeId(random.bytes(8).hex())

    def recover() -> tuple[NodeId, Volumes, Space, GroupCommit, RegisterStore, FragmentStore]:
        found = identity.establish(disk, kv, cluster_id, partition_bits, fresh_id)
        volumes = Volumes(disk, volume_bytes=volume_bytes)
        commits = GroupCommit(kv, volumes, on_fatal)
        space = Space(disk, clock, volumes, capacity_bytes, reserve_bytes)
        registers = RegisterStore(kv, commits, space, 1 << partition_bits)
        fragments = FragmentStore(kv, volumes, commits, space, clock, cluster_id, 1 << partition_bits)
        registers.recover()
        fragments.recover()
        return found.node_id, volumes, space, commits, registers, fragments

    try:
        parts = await asyncio.get_running_loop().run_in_executor(None, recover)
    except OSError as error:
        raise Fatal(f"The data folder cannot be opened: {error}. Check its disk and its permissions.") from error
    streams = Streams(parts[-1], clock, int.from_bytes(random.bytes(6), "big"))
    boot = int.from_bytes(random.bytes(6), "big")
    return NodeService(*parts, streams, name=name, zone=zone, boot=boot)


class NodeService:
    """Service of one node. `close` it before its disk and key-value store."""

    def __init__(
        self,
        node_id: NodeId,
        volumes: Volumes,
        space: Space,
        commits: GroupCommit,
        registers: RegisterStore,
        fragments: FragmentStore,
        streams: Streams,
        *,
        name: str,
        zone: str,
        boot: int,
    ) -> None:
        self.id = node_id
        self.name = name
        self.zone = zone
        self._volumes = volumes
        self._space = space
        self._commits = commits
        self._registers = registers
        self._fragments = fragments
        self._streams = streams
        self._boot = boot
        self._handlers: dict[type, _Handler] = {
            msg.Ping: self._ping,
            msg.RegRead: registers.read,
            msg.RegPrepare: registers.prepare,
            msg.RegAccept: registers.accept,
            msg.RegScan: registers.scan,
            msg.RegFence: registers.fence,
            msg.RegPull: registers.pull,
            msg.RegInstall: registers.install,
            msg.RegDigests: registers.digests,
            msg.RegDrop: registers.drop,
            msg.FragPut: fragments.put,
            msg.FragOpen: streams.open,
            msg.FragWrite: streams.write,
            msg.FragCommit: streams.commit,
            msg.FragAbort: streams.abort,
            msg.FragHead: fragments.head,
            msg.FragRead: fragments.read,
            msg.FragLocate: fragments.locate,
            msg.FragList: fragments.list,
            msg.FragVerify: fragments.verify,
            msg.FragDelete: fragments.delete,
            msg.NodeStats: self._node_stats,
        }
        self._ticker = asyncio.get_running_loop().create_task(self._tick_forever())

    async def handle(self, request: Request, payload: bytes | memoryview) -> tuple[Reply, Buffer]:
        if self._commits.fatal is not None:
            raise self._commits.refusal()
        handler = self._handlers.get(type(request))
        if handler is None:
            raise InvalidRequest(f"a node does not answer {type(request).__name__}; ask the coordinator")
        return await handler(request, payload)

    def tick(self) -> None:
        """Periodic work: end the streams that nobody writes to any more."""
        dropped = self._streams.drop_idle()
        if dropped:
            logger.warning("%d unfinished fragment streams were silent for too long and are dropped", dropped)

    async def check_volumes(self) -> None:
        """Periodic work: notice volumes that somebody removed or cut. What fails is tried again the next time."""
        if self._commits.fatal is not None:
            return
        try:
            await self._fragments.quarantine_lost()
        except (OSError, ObjstoreError) as error:
            logger.warning("The volumes could not be checked now: %s", error)

    def stats(self, *, changes: bool = False) -> NodeStatsReply:
        return NodeStatsReply(
            id=self.id,
            name=self.name,
            capacity_bytes=self._space.capacity_bytes,
            used_bytes=self._volumes.kept_bytes,
            free_bytes=self._space.free_bytes(),
            fragments=self._fragments.count,
            registers=self._registers.count,
            boot=self._boot,
            data_changes=self._fragments.changes.tolist() if changes else [],
            meta_changes=self._registers.changes.tolist() if changes else [],
        )

    async def close(self) -> None:
        """Everything that was queued is durable or has failed on return."""
        self._ticker.cancel()
        await asyncio.wait([self._ticker])
        await self._commits.close()

    async def _ping(self, request: msg.Ping, payload: Buffer) -> tuple[Reply, Buffer]:
        return Pong(self.name, "node", self.id), b""

    async def _node_stats(self, request: msg.NodeStats, payload: Buffer) -> tuple[Reply, Buffer]:
        return self.stats(changes=request.changes), b""

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()
            await self.check_volumes()

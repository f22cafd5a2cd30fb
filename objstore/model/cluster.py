"""The cluster map: who belongs to the cluster, which layout holds, and how far a change of it has come.

One record in the coordinator (key `map`), changed only by compare-and-swap. A *view* says who owns what:
a base layout (changed by operators) with some nodes declared out (changed by failures); out nodes are
substituted by the handoff order, so a node that comes back finds its old slots. `objstore.placement.topology`
computes the owners of a view. While `next` is set a partition is *joint* until it is marked synced.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from objstore.model.errors import InvalidRequest
from objstore.model.formats import msgpack_decoder
from objstore.model.ids import NodeId
from objstore.model.scrubbing import ScrubReport

Level = Literal["ok", "near", "full", "backfill", "reserve"]
"""How full a node says it is (objstore/node/space.py): from full on it takes no new data, from backfill on nothing from
repair either, and in the reserve only what gives space back."""

LEVELS: tuple[Level, ...] = get_args(Level)  # ascending


def is_at_least(level: Level, bound: Level) -> bool:
    return LEVELS.index(level) >= LEVELS.index(bound)


class ErasureCode(msgspec.Struct, frozen=True, order=True):
    """k data shards and m parity shards: any m may be lost."""

    k: int
    m: int

    def __post_init__(self) -> None:
        if not (1 <= self.k and 1 <= self.m and self.k + self.m <= 32):
            raise InvalidRequest(f"erasure code {self.k}+{self.m}: need k >= 1, m >= 1, k+m <= 32")

    @property
    def shards(self) -> int:
        return self.k + self.m

    @property
    def replicas(self) -> int:
        """Acceptors of a metadata partition: metadata survives the same m losses as data."""
        return 2 * self.m + 1

    @property
    def nodes_min(self) -> int:
        """Distinct nodes that a cluster needs to hold every shard and every replica."""
        return max(self.shards, self.replicas)

    def __str__(self) -> str:
        return f"{self.k}+{self.m}"

    @classmethod
    def parse(cls, text: str) -> ErasureCode:
        k, plus, m = text.strip().partition("+")
        if not (plus and k.isdigit() and m.isdigit()):
            raise InvalidRequest(f"erasure code {text!r} is not of the form k+m; for example 4+2")
        return cls(int(k), int(m))


class Node(msgspec.Struct, frozen=True):
    """A member. Its address is not here: it comes with its lease and may change."""

    id: NodeId
    name: str
    zone: str
    capacity_bytes: int  # weight in the placement


class Layout(msgspec.Struct, frozen=True):
    """Owners per partition, as indexes into `nodes`; position = slot (shard index, replica index).

    data: 2**partition_bits rows of k+m entries; meta: as many rows of 2m+1. A row has no node twice.
    """

    nodes: tuple[NodeId, ...]
    data: tuple[tuple[int, ...], ...]
    meta: tuple[tuple[int, ...], ...]


class View(msgspec.Struct, frozen=True):
    epoch: int  # rises by one with every change of layout or out
    layout: Layout
    out: tuple[NodeId, ...] = ()  # sorted; substituted by the handoff order


class ClusterMap(msgspec.Struct, frozen=True):
    cluster_id: str  # 32 hex digits, in every envelope and handshake
    code: ErasureCode
    partition_bits: int
    codec: str  # name of the erasure codec for new objects
    nodes: tuple[Node, ...]
    current: View
    next: View | None = None  # epoch == current.epoch + 1
    synced: bytes = b""  # one bit per partition of `next`: metadata installed on a majority of the new owners
    recovering: int = 0  # the epoch that a recovery of lost metadata has taken; until it holds nobody else acts on this
    plan: str = ""  # id of the last plan of an operator that was carried out (model/plan.py)
    leaving: tuple[NodeId, ...] = ()  # members that are none any more once `next` holds
    format: int = 1  # of the map, and of all that the processes of the cluster tell each other and keep

    @property
    def partitions(self) -> int:
        return 1 << self.partition_bits

    def is_synced(self, partition: int) -> bool:
        return bool(self.synced) and bool(self.synced[partition >> 3] >> (partition & 7) & 1)

    @property
    def newest(self) -> View:
        return self.next or self.current

    @property
    def progress(self) -> tuple[int, int, int]:
        """Rises with every change of who owns what: of two maps of a cluster the one with the higher is the later."""
        return self.newest.epoch, self.current.epoch, int.from_bytes(self.synced, "big").bit_count()


class NodeLease(msgspec.Struct, frozen=True):
    """What a live node says of itself under `nodes/<id>` in the coordinator; gone with its lease."""

    id: NodeId
    name: str
    zone: str
    address: str  # host:port of its RPC
    capacity_bytes: int
    used_bytes: int  # of shards
    free_bytes: int
    started_ms: int
    version: str
    pid: int = 0
    lost: bool = False  # it holds journals of former lives, for recovery (objstore/node/lost.py)
    written: bool = False  # it holds registers, fragments or fences
    level: Level = "ok"
    room_bytes: int | None = None  # what it still takes of new data; None: it does not say
    index_used_bytes: int = 0
    index_size_bytes: int = 0  # what its index may grow to; 0: it does not say
    damaged: int = 0  # fragments that are in quarantine and were not made anew here since
    damaged_ms: int = 0  # when the last of them was found; 0 = none was
    scrub: ScrubReport = ScrubReport()
    sync_ms: int = 0  # what making a write durable usually took in the last minute; 0: too few to tell

    @property
    def held_bytes(self) -> int:
        """What people call used: small objects are in the index."""
        return self.used_bytes + self.index_used_bytes

    @property
    def has_former_life(self) -> bool:
        """It was a member of a cluster map. Where there is none, that one was lost: no first map is made of it."""
        return self.lost or self.written or self.used_bytes > 0


class GatewayLease(msgspec.Struct, frozen=True):
    """Under `gateways/<id>` (and, with the same fields, `repairers/<id>`)."""

    id: str
    name: str
    address: str
    started_ms: int
    version: str
    pid: int = 0


encode_map = msgspec.msgpack.Encoder().encode
decode_map = msgpack_decoder(ClusterMap, "the cluster map", known=1)
encode_lease = msgspec.msgpack.Encoder().encode
decode_node_lease = msgspec.msgpack.Decoder(NodeLease).decode
decode_gateway_lease = msgspec.msgpack.Decoder(GatewayLease).decode

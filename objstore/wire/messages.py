"""Every RPC message, with bounds. A message is small and structured; bulk bytes ride beside it as payload.

Here: those that do not belong to one service alone, and all of them together. How they are encoded: `wire/fields.py`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from objstore.wire.coordination import (
    CoDelete,
    CoEntries,
    CoGet,
    CoGrant,
    CoKeepAlive,
    CoordinatorReply,
    CoordinatorRequest,
    CoPut,
    CoRange,
    CoResult,
    CoRevoke,
    CoWatch,
)
from objstore.wire.fields import Count, Message, Text
from objstore.wire.fragments import (
    FragAbort,
    FragCommit,
    FragDelete,
    FragHead,
    FragList,
    FragListed,
    FragLocate,
    FragLocated,
    FragmentReply,
    FragmentRequest,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    FragWrite,
)
from objstore.wire.registers import (
    Page,
    PageAsk,
    RecDone,
    RecPull,
    RecPulled,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegForget,
    RegInstall,
    RegisterReply,
    RegisterRequest,
    RegPaged,
    RegPages,
    RegPrepare,
    RegPull,
    RegPulled,
    RegRead,
    RegRefused,
    RegScan,
    RegScanned,
    RegStale,
    RegState,
)

__all__ = [
    "CoDelete",
    "CoEntries",
    "CoGet",
    "CoGrant",
    "CoKeepAlive",
    "CoPut",
    "CoRange",
    "CoResult",
    "CoRevoke",
    "CoWatch",
    "ErrorReply",
    "FragAbort",
    "FragCommit",
    "FragDelete",
    "FragHead",
    "FragList",
    "FragListed",
    "FragLocate",
    "FragLocated",
    "FragOpen",
    "FragOpened",
    "FragPut",
    "FragRead",
    "FragVerify",
    "FragWrite",
    "MapFound",
    "MapRead",
    "Named",
    "NodeStats",
    "NodeStatsReply",
    "Ok",
    "Page",
    "PageAsk",
    "Ping",
    "Pong",
    "RecDone",
    "RecPull",
    "RecPulled",
    "RegAccept",
    "RegAccepted",
    "RegDigested",
    "RegDigests",
    "RegDrop",
    "RegFence",
    "RegForget",
    "RegInstall",
    "RegPaged",
    "RegPages",
    "RegPrepare",
    "RegPull",
    "RegPulled",
    "RegRead",
    "RegRefused",
    "RegScan",
    "RegScanned",
    "RegStale",
    "RegState",
    "Reply",
    "Request",
    "decode_reply",
    "decode_request",
    "encode_message",
]


class Ok(Message, frozen=True):
    pass


class ErrorReply(Message, frozen=True):
    """`code` is a class name of model.errors.CODES; unknown codes become ObjstoreError."""

    code: Text
    text: Text


class Ping(Message, frozen=True):
    pass


class Pong(Message, frozen=True):
    name: Text
    role: Text
    id: Text
    wall_ms: Count = 0  # its clock, to find clocks that are wrong; 0: it does not say
    away_ms: Count = 0  # for how long the coordinator has not answered it; 0: it answers, or this one does not say


class Named(Message, frozen=True):
    """A request for one node and no other: one that took over its address, with another disk and so with another
    memory of promises, refuses it."""

    node: Text
    request: bytes  # encode_message


class NodeStats(Message, frozen=True):
    """`changes`: with it the reply has the change counters of all partitions."""

    changes: bool = False


class NodeStatsReply(Message, frozen=True):
    id: Text
    name: Text
    capacity_bytes: int
    used_bytes: int
    free_bytes: int
    fragments: int
    registers: int
    boot: int  # random per process start: counters below are comparable only within one boot
    # per partition: rises with every fragment added, removed or quarantined
    data_changes: list[int] = msgspec.field(default_factory=list)
    # per partition: rises with every accepted or installed register
    meta_changes: list[int] = msgspec.field(default_factory=list)
    client_calls: Count = 0  # calls that somebody outside the cluster waited for
    closed: bool = False  # no fragment is on its way in, and none is taken as long as the node knows of no share of its


class MapRead(Message, frozen=True):
    """Which is the newest cluster map that this node has seen? Asked by who may not reach the coordinator."""


class MapFound(Message, frozen=True):
    """The payload is the encoded model.cluster.ClusterMap, or empty: the node has seen none since it was started."""


Request: TypeAlias = Ping | Named | NodeStats | MapRead | RegisterRequest | FragmentRequest | CoordinatorRequest

Reply: TypeAlias = Ok | ErrorReply | Pong | NodeStatsReply | MapFound | RegisterReply | FragmentReply | CoordinatorReply

_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)

encode_message = msgspec.msgpack.Encoder().encode
decode_request = _request_decoder.decode  # raises msgspec.ValidationError / DecodeError
decode_reply = _reply_decoder.decode

"""Every RPC message, with bounds. A message is small and structured; bulk bytes ride beside it as payload.

Encoded by msgspec as tagged arrays: fields may be added at the end with a default, never reordered. Ballots
travel packed (16 bytes). `tag` is the layout tag that the proposer works under (see objstore/register).
Messages to the coordinator start with Co.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from objstore.model import limits

Key = Annotated[bytes, Meta(min_length=17, max_length=17 + limits.KEY_BYTES_MAX + 17)]  # RegisterKey.pack()
PackedBallot = Annotated[bytes, Meta(min_length=16, max_length=16)]
Blob = Annotated[bytes, Meta(min_length=16, max_length=16)]
Fragment = Annotated[bytes, Meta(min_length=21, max_length=21)]  # FragmentId.pack()
Partition = Annotated[int, Meta(ge=0, lt=1 << limits.PARTITION_BITS_MAX)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Text = Annotated[str, Meta(max_length=4096)]
Path = Annotated[str, Meta(max_length=512)]


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Ok(_Message, frozen=True):
    pass


class ErrorReply(_Message, frozen=True):
    """`code` is a class name of model.errors.CODES; unknown codes become ObjstoreError."""

    code: Text
    text: Text


class Ping(_Message, frozen=True):
    pass


class Pong(_Message, frozen=True):
    name: Text
    role: Text
    id: Text


# --- registers: the acceptor side (objstore/register/acceptor.py) -----------------------------------------


class RegRead(_Message, frozen=True):
    """What is accepted (and durable) here? Without `with_data` the reply has no payload."""

    partition: Partition
    tag: Count
    key: Key
    with_data: bool = True


class RegPrepare(_Message, frozen=True):
    """`with_data`: the grant brings Value.data along."""

    partition: Partition
    tag: Count
    key: Key
    ballot: PackedBallot
    with_data: bool = False


class RegAccept(_Message, frozen=True):
    """The payload is Value.data."""

    partition: Partition
    tag: Count
    key: Key
    ballot: PackedBallot
    listing: bytes
    state: bytes


class RegState(_Message, frozen=True):
    """Answer to RegRead and to a granted RegPrepare; the payload is Value.data if it was asked for.
    Never written: ZERO, empty."""

    accepted: PackedBallot
    listing: bytes
    state: bytes


class RegAccepted(_Message, frozen=True):
    pass


class RegRefused(_Message, frozen=True):
    """A higher ballot was promised or accepted."""

    ballot: PackedBallot


class RegStale(_Message, frozen=True):
    """The partition is fenced at a higher tag: refresh the map."""

    tag: Count


class RegScan(_Message, frozen=True):
    """Accepted registers of one bucket and space in this partition with start <= name (< end), in byte order.

    Invisible ones (tombstones) too, with an empty listing: a merge over a majority must see that a register
    changed on one replica, or it could miss a key that another replica never got (INV-4).
    `with_state`: also the state (repair and garbage collection read it)."""

    partition: Partition
    tag: Count
    bucket: Blob
    space: Annotated[int, Meta(ge=1, le=255)]
    start: Annotated[bytes, Meta(max_length=2048)]
    end: Annotated[bytes, Meta(max_length=2048)]  # b"" = no end
    limit: Annotated[int, Meta(ge=1, le=limits.SCAN_RECORDS_MAX)]
    with_state: bool = False


class RegScanned(_Message, frozen=True):
    """`names[i]` was accepted at `ballots[16*i:16*i+16]`. `more`: the page ended before the range did."""

    names: list[bytes]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]  # [] without with_state
    more: bool


class RegFence(_Message, frozen=True):
    """Persist, for each partition, "refuse tags below `tag`"; never lowers one."""

    partitions: Annotated[list[Partition], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]
    tag: Count


class RegPull(_Message, frozen=True):
    """Copy of registers of a partition, any bucket, key > after (RegisterKey.pack()), for sync and repair.

    `promises` (with `ballots_only`): also what each register promised, and those that were only promised."""

    partition: Partition
    after: Annotated[bytes, Meta(max_length=2048)]
    limit: Annotated[int, Meta(ge=1, le=limits.SCAN_RECORDS_MAX)]
    ballots_only: bool = False
    promises: bool = False


class RegPulled(_Message, frozen=True):
    """Parallel lists; the payload is the concatenation of the data of all records, `data_lengths` each.

    Also the fence of the partition as this acceptor has it, so that the reader knows it was fenced."""

    keys: list[bytes]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]
    data_lengths: list[int]
    more: bool
    fence: Count
    promises: bytes = b""  # if asked for: 16 bytes each, as `ballots`


class RegInstall(_Message, frozen=True):
    """Store each record by the acceptor's rule `install`: its ballot is above the accepted one and not below the
    promise (which rises with it). Others are left alone; who must know pulls afterwards. Payload as in RegPulled."""

    partition: Partition
    keys: Annotated[list[Key], Meta(max_length=limits.SCAN_RECORDS_MAX)]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]
    data_lengths: list[int]


class RegDigests(_Message, frozen=True):
    """For each partition: how many registers, and the xor of the hashes of (key, accepted ballot)."""

    partitions: Annotated[list[Partition], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]


class RegDigested(_Message, frozen=True):
    counts: list[int]
    digests: list[int]  # unsigned 64 bits


class RegDrop(_Message, frozen=True):
    """Where the fence is below `tag`: raise it and forget all registers of the partition; elsewhere no effect.

    Sent to a node that stopped being an owner, and to one that is about to become one: what an acceptor
    accepted before it left must never be reported again (INV-6)."""

    partitions: Annotated[list[Partition], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]
    tag: Count


# --- fragments (objstore/node/fragments.py) -----------------------------------------------------------------


class FragPut(_Message, frozen=True):
    """A whole envelope as payload, durable and verified before the Ok."""

    partition: Partition
    fragment: Fragment


class FragOpen(_Message, frozen=True):
    """Begin a streamed envelope of `length` bytes. Space is reserved; InsufficientStorage if there is none."""

    partition: Partition
    fragment: Fragment
    length: Count


class FragOpened(_Message, frozen=True):
    stream: Count


class FragWrite(_Message, frozen=True):
    """The next bytes of a stream (payload), in order: first the whole header alone, then whole sealed cells."""

    stream: Count
    offset: Count


class FragCommit(_Message, frozen=True):
    """Verify, make durable, index. Ok means durable. Streams of a lost connection are dropped by time."""

    stream: Count


class FragAbort(_Message, frozen=True):
    stream: Count


class FragHead(_Message, frozen=True):
    """The encoded header of the stored envelope as payload of an Ok; NotFound when not held."""

    fragment: Fragment


class FragRead(_Message, frozen=True):
    """Bytes [offset, offset+length) of the sealed cells (offset 0 = first byte after the header) as payload of
    an Ok; NotFound when not held. Not verified here: the reader does (P4)."""

    fragment: Fragment
    offset: Count
    length: Count


class FragLocate(_Message, frozen=True):
    """Which shards of this segment are here?"""

    blob: Blob
    segment: Count


class FragLocated(_Message, frozen=True):
    shards: list[int]


class FragList(_Message, frozen=True):
    """Fragments of a data partition in order, after one (b"" = from the start)."""

    partition: Partition
    after: Annotated[bytes, Meta(max_length=21)]
    limit: Annotated[int, Meta(ge=1, le=65536)]


class FragListed(_Message, frozen=True):
    fragments: bytes  # 21 bytes each
    lengths: list[int]
    more: bool


class FragVerify(_Message, frozen=True):
    """Re-read the envelope from the disk and check every checksum; Corrupt or NotFound otherwise.
    A corrupt fragment is quarantined: from then on it is NotFound."""

    fragment: Fragment


class FragDelete(_Message, frozen=True):
    """Only after positive proof (INV-7). Unknown ones are ignored."""

    partition: Partition
    fragments: bytes  # 21 bytes each


class NodeStats(_Message, frozen=True):
    """`changes`: with it the reply has the change counters of all partitions."""

    changes: bool = False


class NodeStatsReply(_Message, frozen=True):
    id: Text
    name: Text
    capacity_bytes: int
    used_bytes: int
    free_bytes: int
    fragments: int
    registers: int
    boot: int  # random per process start: counters below are comparable only within one boot
    data_changes: list[int] = []  # per partition: rises with every fragment added, removed or quarantined
    meta_changes: list[int] = []  # per partition: rises with every accepted or installed register


# --- coordinator (objstore/cluster) ---------------------------------------------------------------------------


class CoGet(_Message, frozen=True):
    key: Path


class CoRange(_Message, frozen=True):
    prefix: Path


class CoPut(_Message, frozen=True):
    """expected: None = any, 0 = must be absent, else the key's revision. lease 0 = persistent."""

    key: Path
    value: bytes
    lease: Count = 0
    expected: Count | None = None


class CoDelete(_Message, frozen=True):
    key: Path
    expected: Count | None = None


class CoGrant(_Message, frozen=True):
    ttl_s: Annotated[float, Meta(gt=0, le=86400)]


class CoKeepAlive(_Message, frozen=True):
    lease: Count


class CoRevoke(_Message, frozen=True):
    lease: Count


class CoWatch(_Message, frozen=True):
    """Answers as soon as a key under `prefix` changes after revision `after`, at the latest after timeout_s."""

    prefix: Path
    after: Count
    timeout_s: Annotated[float, Meta(ge=0, le=60)]


class CoEntries(_Message, frozen=True):
    """Parallel lists of entries; `revision` of the store."""

    keys: list[str]
    values: list[bytes]
    revisions: list[int]
    revision: Count
    leases: list[int] = []


class CoResult(_Message, frozen=True):
    """done=False: the comparison failed, or the lease is gone. `number`: revision, or lease id."""

    done: bool
    number: Count = 0


Request: TypeAlias = (
    Ping
    | RegRead
    | RegPrepare
    | RegAccept
    | RegScan
    | RegFence
    | RegPull
    | RegInstall
    | RegDigests
    | RegDrop
    | FragPut
    | FragOpen
    | FragWrite
    | FragCommit
    | FragAbort
    | FragHead
    | FragRead
    | FragLocate
    | FragList
    | FragVerify
    | FragDelete
    | NodeStats
    | CoGet
    | CoRange
    | CoPut
    | CoDelete
    | CoGrant
    | CoKeepAlive
    | CoRevoke
    | CoWatch
)

Reply: TypeAlias = (
    Ok
    | ErrorReply
    | Pong
    | RegState
    | RegAccepted
    | RegRefused
    | RegStale
    | RegScanned
    | RegPulled
    | RegDigested
    | FragOpened
    | FragLocated
    | FragListed
    | NodeStatsReply
    | CoEntries
    | CoResult
)

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)

encode_message = _encoder.encode
decode_request = _request_decoder.decode  # raises msgspec.ValidationError / DecodeError
decode_reply = _reply_decoder.decode

"""Messages to and from the fragment store of a node (objstore/node/fragments.py)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from objstore.wire.fields import Blob, Count, Fragment, Message, Partition


class FragPut(Message, frozen=True):
    """A whole envelope as payload, durable and verified before the Ok.
    `backfill`: no new data, but a shard made again or moved: a node takes such for longer than new data (P8)."""

    partition: Partition
    fragment: Fragment
    backfill: bool = False


class FragOpen(Message, frozen=True):
    """Begin a streamed envelope of `length` bytes. Space is reserved; InsufficientStorage if there is none.
    `backfill`: as with FragPut."""

    partition: Partition
    fragment: Fragment
    length: Count
    backfill: bool = False


class FragOpened(Message, frozen=True):
    stream: Count


class FragWrite(Message, frozen=True):
    """The next bytes of a stream (payload), in order: first the whole header alone, then whole sealed cells."""

    stream: Count
    offset: Count


class FragCommit(Message, frozen=True):
    """Verify, make durable, index. Ok means durable. Streams of a lost connection are dropped by time."""

    stream: Count


class FragAbort(Message, frozen=True):
    stream: Count


class FragHead(Message, frozen=True):
    """The encoded header of the stored envelope as payload of an Ok; NotFound when not held."""

    fragment: Fragment


class FragRead(Message, frozen=True):
    """Bytes [offset, offset+length) of the sealed cells (offset 0 = first byte after the header) as payload of
    an Ok; NotFound when not held. Not verified here: the reader does (P4).
    `backfill`: no client waits for it, a shard is made again or moved."""

    fragment: Fragment
    offset: Count
    length: Count
    backfill: bool = False


class FragLocate(Message, frozen=True):
    """Which shards of this segment are here?"""

    blob: Blob
    segment: Count


class FragLocated(Message, frozen=True):
    shards: list[int]


class FragList(Message, frozen=True):
    """Fragments of a data partition in order, after one (b"" = from the start)."""

    partition: Partition
    after: Annotated[bytes, Meta(max_length=21)]
    limit: Annotated[int, Meta(ge=1, le=65536)]


class FragListed(Message, frozen=True):
    fragments: bytes  # 21 bytes each
    lengths: list[int]
    more: bool


class FragVerify(Message, frozen=True):
    """Re-read the envelope from the disk and check every checksum; Corrupt or NotFound otherwise.
    A corrupt fragment is quarantined: from then on it is NotFound.
    `epoch`: of the layout by which this copy stays; from then on the node refuses trims of older layouts."""

    fragment: Fragment
    epoch: Count = 0


class FragDelete(Message, frozen=True):
    """Only after positive proof (INV-7). Unknown ones are ignored.
    `epoch`: of the layout by which these are surplus copies, StaleEpoch if it is too old; 0: nobody needs them."""

    partition: Partition
    fragments: bytes  # 21 bytes each
    epoch: Count = 0


FragmentRequest: TypeAlias = (
    FragPut
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
)

FragmentReply: TypeAlias = FragOpened | FragLocated | FragListed

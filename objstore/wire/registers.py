"""Messages to and from the acceptors of registers (objstore/register/acceptor.py, objstore/node/registers.py)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, field

from objstore.model import limits
from objstore.wire.fields import NO_BALLOT, Blob, Count, Key, Message, PackedBallot, Partition, Text


class RegRead(Message, frozen=True):
    """What is accepted (and durable) here? Without `with_data` the reply has no payload."""

    partition: Partition
    tag: Count
    key: Key
    with_data: bool = True


class RegPrepare(Message, frozen=True):
    """`with_data`: the grant brings Value.data along."""

    partition: Partition
    tag: Count
    key: Key
    ballot: PackedBallot
    with_data: bool = False


class RegAccept(Message, frozen=True):
    """The payload is Value.data."""

    partition: Partition
    tag: Count
    key: Key
    ballot: PackedBallot
    listing: bytes
    state: bytes


class RegState(Message, frozen=True):
    """Answer to RegRead and to a granted RegPrepare; the payload is Value.data if it was asked for.
    Never written, or forgotten: ZERO, empty, and the floor of the partition (INV-11).
    `full`: told with a promise, no new value ought to be sent here."""

    accepted: PackedBallot
    listing: bytes
    state: bytes
    floor: PackedBallot = NO_BALLOT
    full: bool = False


class RegAccepted(Message, frozen=True):
    pass


class RegRefused(Message, frozen=True):
    """A higher ballot was promised or accepted, or the register is absent and the floor is as high."""

    ballot: PackedBallot


class RegStale(Message, frozen=True):
    """The partition is fenced at a higher tag: refresh the map."""

    tag: Count


class RegScan(Message, frozen=True):
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


class RegScanned(Message, frozen=True):
    """`names[i]` was accepted at `ballots[16*i:16*i+16]`. `more`: the page ended before the range did."""

    names: list[bytes]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]  # [] without with_state
    more: bool


class PageAsk(msgspec.Struct, frozen=True, array_like=True):
    """One partition of a RegPages. `tell`: with the names and listings; else the digests alone are wanted. Without
    `read` that of the whole partition will do, for which no row is read."""

    partition: Partition
    tag: Count
    start: Annotated[bytes, Meta(max_length=2048)]
    tell: bool
    read: bool = True


class RegPages(Message, frozen=True):
    """As RegScan without states, of many partitions at once: the first `limit` registers from each `start`.

    One replica of a partition tells its page and the others vouch for it: equal digests settle all of its names, of
    the page or of the whole partition."""

    bucket: Blob
    space: Annotated[int, Meta(ge=1, le=255)]
    end: Annotated[bytes, Meta(max_length=2048)]  # b"" = no end
    limit: Annotated[int, Meta(ge=1, le=limits.SCAN_RECORDS_MAX)]
    asks: Annotated[list[PageAsk], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]


class Page(msgspec.Struct, frozen=True, array_like=True):
    """`digest`: of the names and ballots of the page, and of `more` (register/scan.py); b"": there is no page, as the
    tag is stale, the reply would become too long, or it was not to be read. Names and listings only if they were
    asked for. `whole`: of all registers of the partition; b"": unknown, as the tag is stale or something there is being
    written."""

    digest: Annotated[bytes, Meta(max_length=16)]
    names: list[bytes] = field(default_factory=list)
    listings: list[bytes] = field(default_factory=list)
    more: bool = False
    whole: Annotated[bytes, Meta(max_length=16)] = b""


class RegPaged(Message, frozen=True):
    """The pages in the order of the asks."""

    pages: list[Page]


class RegFence(Message, frozen=True):
    """Persist, for each partition, "refuse tags below `tag`"; never lowers one."""

    partitions: Annotated[list[Partition], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]
    tag: Count


class RegPull(Message, frozen=True):
    """Copy of registers of a partition, any bucket, key > after (RegisterKey.pack()), for sync and repair.
    `promises` (with `ballots_only`): also what each register promised, and those that were only promised."""

    partition: Partition
    after: Annotated[bytes, Meta(max_length=2048)]
    limit: Annotated[int, Meta(ge=1, le=limits.SCAN_RECORDS_MAX)]
    ballots_only: bool = False
    promises: bool = False


class RegPulled(Message, frozen=True):
    """Parallel lists; the payload is the concatenation of the data of all records, `data_lengths` each.
    Also the fence and the floor of the partition as this acceptor has them, so that the reader knows it was fenced."""

    keys: list[bytes]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]
    data_lengths: list[int]
    more: bool
    fence: Count
    promises: bytes = b""  # if asked for: 16 bytes each, as `ballots`
    floor: PackedBallot = NO_BALLOT


class RegInstall(Message, frozen=True):
    """Store each record by the acceptor's rule `install`: its ballot is above the accepted one and not below the
    promise (which rises with it). Others are left alone; who must know pulls afterwards. Payload as in RegPulled."""

    partition: Partition
    tag: Count
    keys: Annotated[list[Key], Meta(max_length=limits.SCAN_RECORDS_MAX)]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]
    data_lengths: list[int]


class RegDigests(Message, frozen=True):
    """For each partition: how many registers, and the xor of the hashes of (key, accepted ballot)."""

    partitions: Annotated[list[Partition], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]


class RegDigested(Message, frozen=True):
    counts: list[int]
    digests: list[int]  # unsigned 64 bits


class RegDrop(Message, frozen=True):
    """Where the fence is below `tag`: raise it, forget all registers of the partition and its floor; else no effect.

    Sent to a node that stopped being an owner, and to one that is about to become one: what an acceptor
    accepted before it left must never be reported again (INV-6)."""

    partitions: Annotated[list[Partition], Meta(max_length=1 << limits.PARTITION_BITS_MAX)]
    tag: Count


class RegForget(Message, frozen=True):
    """Raise the floor of the partition, and in the same commit forget each of these registers that is an empty
    tombstone accepted at the ballot named, or only promised (ZERO), and promised nothing above the floor (INV-11).
    With keys only after every owner has raised its floor."""

    partition: Partition
    tag: Count
    floor: PackedBallot
    keys: Annotated[list[Key], Meta(max_length=limits.SCAN_RECORDS_MAX)] = field(default_factory=list)
    ballots: bytes = b""


class RecPull(Message, frozen=True):
    """What a node that lost its index reads in the journals of its former lives (objstore/node/lost.py): registers of
    a partition, key > after, for recovery. Each time the index was lost is one `life`, from 0, in no special order;
    each is a replica of its own that has ended. Bounded like RegPull."""

    partition: Partition
    after: Annotated[bytes, Meta(max_length=2048)]
    limit: Annotated[int, Meta(ge=1, le=limits.SCAN_RECORDS_MAX)]
    life: Count = 0


class RecPulled(Message, frozen=True):
    """As RegPulled. `lives`: how many there are (0: nothing was lost, or nothing is left of it); beyond them: empty.

    `tag` is the highest under which this life worked for the partition: a value was accepted, a fence set, a drop
    done. An owner of a partition that never moves hears of a new tag only with the next value that it accepts.
    `floor` its floor ballot, `damaged` how many places of the whole life do not verify."""

    keys: list[bytes]
    ballots: bytes
    listings: list[bytes]
    states: list[bytes]
    data_lengths: list[int]
    more: bool
    tag: Count
    floor: PackedBallot
    damaged: Count
    lives: Count = 0
    node: Text = ""  # the id of the node in that life


class RecDone(Message, frozen=True):
    """The journals of former lives are no longer needed: remove them. Ok means durably gone."""


RegisterRequest: TypeAlias = (
    RegRead
    | RegPrepare
    | RegAccept
    | RegScan
    | RegPages
    | RegFence
    | RegPull
    | RegInstall
    | RegDigests
    | RegDrop
    | RegForget
    | RecPull
    | RecDone
)

RegisterReply: TypeAlias = (
    RegState | RegAccepted | RegRefused | RegStale | RegScanned | RegPaged | RegPulled | RegDigested | RecPulled
)

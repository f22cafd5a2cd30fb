"""What repair keeps of a register: as little as its decisions need, for there is one of each in memory."""

from __future__ import annotations

import msgspec

from objstore.model.ids import BucketId
from objstore.model.manifest import BlobRef
from objstore.model.notification import Waiting
from objstore.model.quota import BucketQuota
from objstore.model.records import Attempt, Moves, Retired
from objstore.model.usage import NO_USE, Use


class Record(msgspec.Struct, frozen=True, gc=False):  # a tuple would be looked through at every full collection
    """What matters of a register. `counted`: an object that a client can see."""

    ballot: bytes
    counted: bool = False
    blobs: tuple[BlobRef, ...] = ()  # live: to be kept at full redundancy
    retired: tuple[Retired, ...] = ()
    upload: bytes = b""  # of an upload or a part: the upload's id
    ended: bool = False  # the upload is over: its parts refer to nothing any more
    empty: bool = False  # a tombstone that says nothing: it may be forgotten (INV-11)
    at_ms: int = 0  # when an upload ended, or a part was uploaded
    attempts: tuple[Attempt, ...] = ()  # of an object
    ended_buckets: tuple[BucketId, ...] = ()  # of a bucket name
    bucket: bytes = b""  # of a bucket name: the bucket that has it now
    use: Use = NO_USE  # what it adds to its bucket, while it has not ended
    quota: BucketQuota | None = None  # of a bucket name
    reports: bool = False  # of a bucket name: inventories are to be written
    waiting: tuple[Waiting, ...] = ()  # of an object: events that are still to be delivered
    moves: Moves | None = None  # of an object: renames
    buried: bool = False  # an object that was deleted during a migration: only that is left to be known

"""Every error of objstore, as one tree split by whose fault it is and what the caller may do.

ObjstoreError
├── InvalidRequest        the caller's input is wrong; sending it again cannot help
│   ├── ConfigError       a configuration file, flag or environment variable is wrong
│   ├── BadDigest         the body does not match the checksum that came with it
│   │   └── WrongMD5      which was its MD5
│   └── IncompleteBody    fewer bytes arrived than were announced
├── NotFound
│   ├── NoSuchBucket · NoSuchUpload · NoSuchVersion
│   └── NoSuchKey
│       ├── DeletedHere     during a migration from another service, which may still have it
│       └── IsDeleteMarker  the newest version, or the one that was asked for, says that the object was deleted
├── Conflict              true now, may be false later: a decision of the state itself
│   ├── PreconditionFailed · BucketAlreadyExists · BucketNotEmpty · InvalidBucketState
│   ├── ObjectLocked      a retention period or a legal hold keeps this version from being deleted or shortened
│   ├── TooManyVersions   one key holds as many versions as it can
│   ├── InvalidWriteOffset  an append names another size than the object has
│   ├── TooManyParts · NotAppendable
│   ├── TooManyRenames    as many objects as can be have their bytes from one key, under other names
│   ├── NotRenamable      the bucket is or was versioned
│   ├── QuotaExceeded     the bucket holds, or would hold, more than its quota
│   ├── GivenUp           the write took so long that its bytes were given up meanwhile; send it again
│   └── InvalidPart · InvalidPartOrder · PartTooSmall
├── Unavailable           try again later; nothing is known to be wrong with the request
│   ├── Unreachable       no connection, or it broke before the answer (outcome unknown)
│   ├── DeadlineExceeded  no answer in time (outcome unknown)
│   ├── QuorumLost        too few replicas or shards answer
│   ├── StaleEpoch        the other side knows a newer layout; refresh the map and start over
│   ├── Overloaded        a bounded queue is full
│   │   └── OriginUnavailable  the service that a bucket is migrated from does not answer
│   └── InsufficientStorage  a disk (or the cluster) is full
├── Corrupt               stored or received bytes do not match their checksum or their name
│   └── WireError         a frame breaks the protocol; the connection ends
└── Fatal                 this process must stop (EIO on fsync, foreign data folder)

Operating errors are never asserted and assertion errors are never caught: an assertion is a bug.
The S3 codes for these are mapped in one place, `gateway/s3/errors.py`. `CODES` names the classes that
may cross the wire.
"""

from __future__ import annotations


class ObjstoreError(Exception):
    """Base of all; `str(e)` is one sentence: what happened, why, what to do."""


class InvalidRequest(ObjstoreError):
    pass


class ConfigError(InvalidRequest):
    pass


class BadDigest(InvalidRequest):
    pass


class WrongMD5(BadDigest):
    """`expected` came with the body, `calculated` is that of the body; both in binary."""

    def __init__(
        self,
        message: str = "The Content-MD5 you specified did not match what we received.",
        *,
        expected: bytes = b"",
        calculated: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.calculated = calculated


class IncompleteBody(InvalidRequest):
    pass


class NotFound(ObjstoreError):
    pass


class NoSuchBucket(NotFound):
    pass


class NoSuchKey(NotFound):
    pass


class DeletedHere(NoSuchKey):
    """`migration`: during which it was deleted; its origin is not asked."""

    def __init__(self, text: str, migration: bytes = b"") -> None:
        super().__init__(text)
        self.migration = migration


class IsDeleteMarker(NoSuchKey):
    """`version_id`: as shown to clients; `named`: the request asked for this very version, made at `modified_ms`."""

    def __init__(self, text: str, version_id: str = "", *, named: bool = False, modified_ms: int = 0) -> None:
        super().__init__(text)
        self.version_id = version_id
        self.modified_ms = modified_ms
        self.named = named


class NoSuchVersion(NotFound):
    pass


class NoSuchUpload(NotFound):
    pass


class Conflict(ObjstoreError):
    pass


class PreconditionFailed(Conflict):
    pass


class BucketAlreadyExists(Conflict):
    pass


class BucketNotEmpty(Conflict):
    pass


class InvalidBucketState(Conflict):
    pass


class ObjectLocked(Conflict):
    pass


class TooManyVersions(Conflict):
    pass


class QuotaExceeded(Conflict):
    pass


class InvalidWriteOffset(Conflict):
    pass


class TooManyParts(Conflict):
    pass


class NotAppendable(Conflict):
    pass


class TooManyRenames(Conflict):
    pass


class NotRenamable(Conflict):
    pass


class GivenUp(Conflict):
    """`floor`: the ballot time up to which ids were given up; one made after it will do."""

    def __init__(self, text: str, floor: int = 0) -> None:
        super().__init__(text)
        self.floor = floor


class InvalidPart(Conflict):
    pass


class InvalidPartOrder(Conflict):
    pass


class PartTooSmall(Conflict):
    pass


class Unavailable(ObjstoreError):
    pass


class Unreachable(Unavailable):
    pass


class DeadlineExceeded(Unavailable):
    pass


class QuorumLost(Unavailable):
    pass


class StaleEpoch(Unavailable):
    pass


class Overloaded(Unavailable):
    pass


class OriginUnavailable(Overloaded):
    pass


class InsufficientStorage(Unavailable):
    pass


class Corrupt(ObjstoreError):
    pass


class WireError(Corrupt):
    pass


class Fatal(ObjstoreError):
    pass


def _tree(cls: type[ObjstoreError]) -> dict[str, type[ObjstoreError]]:
    found = {cls.__name__: cls}
    for child in cls.__subclasses__():
        found.update(_tree(child))
    return found


CODES: dict[str, type[ObjstoreError]] = _tree(ObjstoreError)

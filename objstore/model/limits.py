"""Every bound of the system, with its unit and its reason. Relations are asserted at import."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

KEY_BYTES_MAX = 1024  # S3
BUCKET_NAME_BYTES_MAX = 63  # S3
USER_METADATA_BYTES_MAX = 2 * KIB  # S3
PUT_SIZE_MAX = 5 * GIB  # S3: one PutObject or one part
PARTS_MAX = 10_000  # S3
PART_SIZE_MIN = 5 * MIB  # S3: every part but the last
LIST_PAGE_MAX = 1000  # S3: MaxKeys, MaxParts, MaxUploads
XML_BODY_BYTES_MAX = 8 * MIB  # DeleteObjects with 1000 long keys, CompleteMultipartUpload with 10,000 parts

CELL_SIZE = 256 * KIB  # one checksummed unit of a shard; a stripe is k of them
SEGMENT_SIZE = 64 * MIB  # an object is cut here so that a large one spreads over all nodes
INLINE_SIZE_MAX = 32 * KIB  # up to here the bytes travel inside the register
INLINE_KEPT_MAX = 64 * KIB  # ... those of all versions of a key together: each read of the newest brings them along
EVENTS_PER_KEY_MAX = 100  # notifications of one key that are still to be told; of more the oldest go, and are counted
EVENT_KEPT_MS = 7 * 86_400_000  # ... and how long a target that does not answer is tried
VERSIONS_MAX = 10_000  # of one key: its register holds what is known of all of them, and is written whole
KEY_STATE_BYTES_MAX = 4 * MIB  # ... and the same in bytes

FRAME_BYTES_MAX = 32 * MIB  # one RPC message with its payload
RPC_PAYLOAD_BYTES_MAX = 16 * MIB
SCAN_RECORDS_MAX = 1024  # records in one page of a register or fragment scan
SCAN_BYTES_MAX = 4 * MIB  # bytes in one page of a scan that carries values

BUCKET_SHARDS = 16  # metadata shards of a bucket, fixed at its creation
SYSTEM_SHARDS = 1  # of the bucket that holds the buckets: few, small, listed whole
PARTITION_BITS = 10
PARTITION_BITS_MAX = 16

OPS_KEPT_MAX = 128  # results of recent operations in a register, for retries
OPS_KEPT_MS = 60_000  # ... and how long (by ballot clock); pruning is safe at any value, see register/DESIGN.md

OPERATION_TIMEOUT_S = 5.0  # P2: without a quorum the answer is a 503 within this
RPC_TIMEOUT_S = 4.0
CONNECT_TIMEOUT_S = 1.0

assert CELL_SIZE + 4 * KIB < RPC_PAYLOAD_BYTES_MAX <= FRAME_BYTES_MAX - MIB
assert INLINE_SIZE_MAX <= INLINE_KEPT_MAX < CELL_SIZE
assert KEY_STATE_BYTES_MAX < FRAME_BYTES_MAX // 4
assert SEGMENT_SIZE % CELL_SIZE == 0
assert RPC_TIMEOUT_S < OPERATION_TIMEOUT_S

"""What an operation needs leave for: the actions of policies, and the resource of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.s3 import acls
from gateway.s3.locks import bypasses
from gateway.s3.operations import Operation
from gateway.s3.rename import rename_source
from gateway.s3.router import copy_source
from gateway.s3.target import Query


class Need(NamedTuple):
    action: str  # with its service: s3:GetObject
    bucket: str | None
    key: str | None = None
    version_id: str | None = None  # that is named
    made: bool = False  # the bucket is to be made: no policy of it, or ACL, can say anything yet

    @property
    def resource(self) -> str:
        if self.bucket is None:
            return "arn:aws:s3:::*"
        return f"arn:aws:s3:::{self.bucket}" + (f"/{self.key}" if self.key is not None else "")


_O = Operation
# Where the action has not the name of the operation.
_NAMES: Mapping[Operation, str] = {
    _O.COMPLETE_MULTIPART_UPLOAD: "PutObject",
    _O.COPY_OBJECT: "PutObject",
    _O.CREATE_MULTIPART_UPLOAD: "PutObject",
    _O.DELETE_BUCKET_ANALYTICS_CONFIGURATION: "PutAnalyticsConfiguration",
    _O.DELETE_BUCKET_CORS: "PutBucketCORS",
    _O.DELETE_BUCKET_ENCRYPTION: "PutEncryptionConfiguration",
    _O.DELETE_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: "PutIntelligentTieringConfiguration",
    _O.DELETE_BUCKET_INVENTORY_CONFIGURATION: "PutInventoryConfiguration",
    _O.DELETE_BUCKET_LIFECYCLE: "PutLifecycleConfiguration",
    _O.DELETE_BUCKET_METRICS_CONFIGURATION: "PutMetricsConfiguration",
    _O.DELETE_BUCKET_OWNERSHIP_CONTROLS: "PutBucketOwnershipControls",
    _O.DELETE_BUCKET_REPLICATION: "PutReplicationConfiguration",
    _O.DELETE_BUCKET_TAGGING: "PutBucketTagging",
    _O.DELETE_OBJECTS: "DeleteObject",
    _O.DELETE_PUBLIC_ACCESS_BLOCK: "PutBucketPublicAccessBlock",
    _O.GET_BUCKET_ACCELERATE_CONFIGURATION: "GetAccelerateConfiguration",
    _O.GET_BUCKET_ANALYTICS_CONFIGURATION: "GetAnalyticsConfiguration",
    _O.GET_BUCKET_CORS: "GetBucketCORS",
    _O.GET_BUCKET_ENCRYPTION: "GetEncryptionConfiguration",
    _O.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: "GetIntelligentTieringConfiguration",
    _O.GET_BUCKET_INVENTORY_CONFIGURATION: "GetInventoryConfiguration",
    _O.GET_BUCKET_LIFECYCLE_CONFIGURATION: "GetLifecycleConfiguration",
    _O.GET_BUCKET_METRICS_CONFIGURATION: "GetMetricsConfiguration",
    _O.GET_BUCKET_NOTIFICATION_CONFIGURATION: "GetBucketNotification",
    _O.GET_BUCKET_REPLICATION: "GetReplicationConfiguration",
    _O.GET_OBJECT_LOCK_CONFIGURATION: "GetBucketObjectLockConfiguration",
    _O.GET_PUBLIC_ACCESS_BLOCK: "GetBucketPublicAccessBlock",
    _O.HEAD_BUCKET: "ListBucket",
    _O.HEAD_OBJECT: "GetObject",
    _O.LIST_BUCKET_ANALYTICS_CONFIGURATIONS: "GetAnalyticsConfiguration",
    _O.LIST_BUCKET_INTELLIGENT_TIERING_CONFIGURATIONS: "GetIntelligentTieringConfiguration",
    _O.LIST_BUCKET_INVENTORY_CONFIGURATIONS: "GetInventoryConfiguration",
    _O.LIST_BUCKET_METRICS_CONFIGURATIONS: "GetMetricsConfiguration",
    _O.LIST_BUCKETS: "ListAllMyBuckets",
    _O.LIST_MULTIPART_UPLOADS: "ListBucketMultipartUploads",
    _O.LIST_OBJECT_VERSIONS: "ListBucketVersions",
    _O.LIST_OBJECTS: "ListBucket",
    _O.LIST_OBJECTS_V2: "ListBucket",
    _O.LIST_PARTS: "ListMultipartUploadParts",
    _O.POST_OBJECT: "PutObject",
    _O.PUT_BUCKET_CORS: "PutBucketCORS",
    _O.PUT_BUCKET_ENCRYPTION: "PutEncryptionConfiguration",
    _O.PUT_BUCKET_INVENTORY_CONFIGURATION: "PutInventoryConfiguration",
    _O.PUT_BUCKET_LIFECYCLE_CONFIGURATION: "PutLifecycleConfiguration",
    _O.PUT_BUCKET_NOTIFICATION_CONFIGURATION: "PutBucketNotification",
    _O.PUT_BUCKET_REPLICATION: "PutReplicationConfiguration",
    _O.PUT_OBJECT_LOCK_CONFIGURATION: "PutBucketObjectLockConfiguration",
    _O.RENAME_OBJECT: "PutObject",
    _O.PUT_PUBLIC_ACCESS_BLOCK: "PutBucketPublicAccessBlock",
    _O.UPLOAD_PART: "PutObject",
    _O.UPLOAD_PART_COPY: "PutObject",
}
# With a version named, another action.
_OF_VERSIONS = frozenset(
    [
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectTagging",
        "PutObjectAcl",
        "PutObjectTagging",
        "DeleteObject",
        "DeleteObjectTagging",
    ]
)
_VERSIONED = {
    name: name.replace("Object", "ObjectVersion", 1) for name in _OF_VERSIONS
}  # GetObjectVersionTagging, DeleteObjectVersion, ...
_BY_HEADER: Mapping[str, str] = {
    "x-amz-tagging": "PutObjectTagging",
    "x-amz-object-lock-mode": "PutObjectRetention",
    "x-amz-object-lock-retain-until-date": "PutObjectRetention",
    "x-amz-object-lock-legal-hold": "PutObjectLegalHold",
}
_NEW_OBJECTS = frozenset((_O.PUT_OBJECT, _O.COPY_OBJECT, _O.CREATE_MULTIPART_UPLOAD, _O.POST_OBJECT))
_COPIES = frozenset((_O.COPY_OBJECT, _O.UPLOAD_PART_COPY))


def action_of(operation: Operation) -> str:
    return "s3:" + _NAMES.get(operation, operation.value)


ACTIONS = frozenset(
    (
        *(action_of(operation) for operation in Operation),
        *(f"s3:{name}" for name in _VERSIONED.values()),
        "s3:BypassGovernanceRetention",
        "s3:PutObjectVersionAcl",
        "s3:GetObjectVersionTorrent",
        "s3:PutAccelerateConfiguration",
        "s3:PutAnalyticsConfiguration",
        "s3:PutIntelligentTieringConfiguration",
        "s3:PutInventoryConfiguration",
        "s3:PutMetricsConfiguration",
        "s3:GetObjectVersionForReplication",
        "s3:ReplicateObject",
        "s3:ReplicateDelete",
        "s3:ReplicateTags",
        "s3:InitiateReplication",
        "s3:ObjectOwnerOverrideToBucketOwner",
        "s3:GetAccountPublicAccessBlock",
        "s3:PutAccountPublicAccessBlock",
        "s3:DeleteBucketWebsite",
    )
)


def of_object(action: str, bucket: str, key: str, version_id: str | None = None) -> Need:
    """`action` without its service."""
    return Need("s3:" + (_VERSIONED.get(action, action) if version_id else action), bucket, key, version_id)


def needs(
    operation: Operation, bucket: str | None, key: str | None, query: Query, headers: Mapping[str, str]
) -> tuple[Need, ...]:
    """All of them must be allowed. S3Error InvalidArgument (a copy source that cannot be one).

    DeleteObjects has none of its own: each of its keys is decided as by DeleteObject.
    """
    if operation is _O.DELETE_OBJECTS:
        return ()
    name = _NAMES.get(operation, operation.value)
    if key is None or bucket is None:
        if operation is _O.CREATE_BUCKET:
            return tuple(Need("s3:" + name, bucket, made=True) for name in _of_new_bucket(headers))
        return (Need("s3:" + name, bucket),)
    found = [of_object(name, bucket, key, query.get("versionId"))]
    if operation is _O.GET_OBJECT_ATTRIBUTES:
        found.append(of_object("GetObject", bucket, key, query.get("versionId")))
    if operation in _COPIES:
        source = copy_source(headers["x-amz-copy-source"])
        found.append(of_object("GetObject", source.bucket, source.key, source.version_id))
    if operation is _O.RENAME_OBJECT:
        source_key = rename_source(headers, bucket)
        found += [Need("s3:GetObject", bucket, source_key), Need("s3:DeleteObject", bucket, source_key)]
    if operation in _NEW_OBJECTS:
        extra = {action for header, action in _BY_HEADER.items() if header in headers}
        if acls.is_asked(headers):  # what everything has anyway needs no leave: many clients say it always
            extra.add("PutObjectAcl")
        found.extend(Need("s3:" + action, bucket, key) for action in sorted(extra))
    if bypasses(headers):
        found.append(Need("s3:BypassGovernanceRetention", bucket, key, query.get("versionId")))
    return tuple(found)


def _of_new_bucket(headers: Mapping[str, str]) -> list[str]:
    found = ["CreateBucket"]
    if headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true":
        found.append("PutBucketObjectLockConfiguration")
    if acls.is_asked(headers):
        found.append("PutBucketAcl")
    if acls.OWNERSHIP_HEADER in headers:
        found.append("PutBucketOwnershipControls")
    return found

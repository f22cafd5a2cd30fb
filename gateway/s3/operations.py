"""Every S3 operation, how a request names it, and what this gateway does with it: one table.

Not here: matching a request against the table (`router`). Invariant, held by tests: the table has every operation
of the S3 API exactly once as a target, and DESIGN.md shows the same support.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from gateway.s3 import acls, encryption, lifecycle, locks, owners, rename, xml


class Operation(Enum):
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload"
    COPY_OBJECT = "CopyObject"
    CREATE_BUCKET = "CreateBucket"
    CREATE_BUCKET_METADATA_CONFIGURATION = "CreateBucketMetadataConfiguration"
    CREATE_BUCKET_METADATA_TABLE_CONFIGURATION = "CreateBucketMetadataTableConfiguration"
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    CREATE_SESSION = "CreateSession"
    DELETE_BUCKET = "DeleteBucket"
    DELETE_BUCKET_ANALYTICS_CONFIGURATION = "DeleteBucketAnalyticsConfiguration"
    DELETE_BUCKET_CORS = "DeleteBucketCors"
    DELETE_BUCKET_ENCRYPTION = "DeleteBucketEncryption"
    DELETE_BUCKET_INTELLIGENT_TIERING_CONFIGURATION = "DeleteBucketIntelligentTieringConfiguration"
    DELETE_BUCKET_INVENTORY_CONFIGURATION = "DeleteBucketInventoryConfiguration"
    DELETE_BUCKET_LIFECYCLE = "DeleteBucketLifecycle"
    DELETE_BUCKET_METADATA_CONFIGURATION = "DeleteBucketMetadataConfiguration"
    DELETE_BUCKET_METADATA_TABLE_CONFIGURATION = "DeleteBucketMetadataTableConfiguration"
    DELETE_BUCKET_METRICS_CONFIGURATION = "DeleteBucketMetricsConfiguration"
    DELETE_BUCKET_OWNERSHIP_CONTROLS = "DeleteBucketOwnershipControls"
    DELETE_BUCKET_POLICY = "DeleteBucketPolicy"
    DELETE_BUCKET_REPLICATION = "DeleteBucketReplication"
    DELETE_BUCKET_TAGGING = "DeleteBucketTagging"
    DELETE_BUCKET_WEBSITE = "DeleteBucketWebsite"
    DELETE_OBJECT = "DeleteObject"
    DELETE_OBJECT_ANNOTATION = "DeleteObjectAnnotation"
    DELETE_OBJECT_TAGGING = "DeleteObjectTagging"
    DELETE_OBJECTS = "DeleteObjects"
    DELETE_PUBLIC_ACCESS_BLOCK = "DeletePublicAccessBlock"
    GET_BUCKET_ABAC = "GetBucketAbac"
    GET_BUCKET_ACCELERATE_CONFIGURATION = "GetBucketAccelerateConfiguration"
    GET_BUCKET_ACL = "GetBucketAcl"
    GET_BUCKET_ANALYTICS_CONFIGURATION = "GetBucketAnalyticsConfiguration"
    GET_BUCKET_CORS = "GetBucketCors"
    GET_BUCKET_ENCRYPTION = "GetBucketEncryption"
    GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION = "GetBucketIntelligentTieringConfiguration"
    GET_BUCKET_INVENTORY_CONFIGURATION = "GetBucketInventoryConfiguration"
    GET_BUCKET_LIFECYCLE_CONFIGURATION = "GetBucketLifecycleConfiguration"
    GET_BUCKET_LOCATION = "GetBucketLocation"
    GET_BUCKET_LOGGING = "GetBucketLogging"
    GET_BUCKET_METADATA_CONFIGURATION = "GetBucketMetadataConfiguration"
    GET_BUCKET_METADATA_TABLE_CONFIGURATION = "GetBucketMetadataTableConfiguration"
    GET_BUCKET_METRICS_CONFIGURATION = "GetBucketMetricsConfiguration"
    GET_BUCKET_NOTIFICATION_CONFIGURATION = "GetBucketNotificationConfiguration"
    GET_BUCKET_OWNERSHIP_CONTROLS = "GetBucketOwnershipControls"
    GET_BUCKET_POLICY = "GetBucketPolicy"
    GET_BUCKET_POLICY_STATUS = "GetBucketPolicyStatus"
    GET_BUCKET_REPLICATION = "GetBucketReplication"
    GET_BUCKET_REQUEST_PAYMENT = "GetBucketRequestPayment"
    GET_BUCKET_TAGGING = "GetBucketTagging"
    GET_BUCKET_VERSIONING = "GetBucketVersioning"
    GET_BUCKET_WEBSITE = "GetBucketWebsite"
    GET_OBJECT = "GetObject"
    GET_OBJECT_ACL = "GetObjectAcl"
    GET_OBJECT_ANNOTATION = "GetObjectAnnotation"
    GET_OBJECT_ATTRIBUTES = "GetObjectAttributes"
    GET_OBJECT_LEGAL_HOLD = "GetObjectLegalHold"
    GET_OBJECT_LOCK_CONFIGURATION = "GetObjectLockConfiguration"
    GET_OBJECT_RETENTION = "GetObjectRetention"
    GET_OBJECT_TAGGING = "GetObjectTagging"
    GET_OBJECT_TORRENT = "GetObjectTorrent"
    GET_PUBLIC_ACCESS_BLOCK = "GetPublicAccessBlock"
    HEAD_BUCKET = "HeadBucket"
    HEAD_OBJECT = "HeadObject"
    LIST_BUCKET_ANALYTICS_CONFIGURATIONS = "ListBucketAnalyticsConfigurations"
    LIST_BUCKET_INTELLIGENT_TIERING_CONFIGURATIONS = "ListBucketIntelligentTieringConfigurations"
    LIST_BUCKET_INVENTORY_CONFIGURATIONS = "ListBucketInventoryConfigurations"
    LIST_BUCKET_METRICS_CONFIGURATIONS = "ListBucketMetricsConfigurations"
    LIST_BUCKETS = "ListBuckets"
    LIST_DIRECTORY_BUCKETS = "ListDirectoryBuckets"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    LIST_OBJECT_ANNOTATIONS = "ListObjectAnnotations"
    LIST_OBJECT_VERSIONS = "ListObjectVersions"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    LIST_PARTS = "ListParts"
    POST_OBJECT = "PostObject"
    PUT_BUCKET_ABAC = "PutBucketAbac"
    PUT_BUCKET_ACCELERATE_CONFIGURATION = "PutBucketAccelerateConfiguration"
    PUT_BUCKET_ACL = "PutBucketAcl"
    PUT_BUCKET_ANALYTICS_CONFIGURATION = "PutBucketAnalyticsConfiguration"
    PUT_BUCKET_CORS = "PutBucketCors"
    PUT_BUCKET_ENCRYPTION = "PutBucketEncryption"
    PUT_BUCKET_INTELLIGENT_TIERING_CONFIGURATION = "PutBucketIntelligentTieringConfiguration"
    PUT_BUCKET_INVENTORY_CONFIGURATION = "PutBucketInventoryConfiguration"
    PUT_BUCKET_LIFECYCLE_CONFIGURATION = "PutBucketLifecycleConfiguration"
    PUT_BUCKET_LOGGING = "PutBucketLogging"
    PUT_BUCKET_METRICS_CONFIGURATION = "PutBucketMetricsConfiguration"
    PUT_BUCKET_NOTIFICATION_CONFIGURATION = "PutBucketNotificationConfiguration"
    PUT_BUCKET_OWNERSHIP_CONTROLS = "PutBucketOwnershipControls"
    PUT_BUCKET_POLICY = "PutBucketPolicy"
    PUT_BUCKET_REPLICATION = "PutBucketReplication"
    PUT_BUCKET_REQUEST_PAYMENT = "PutBucketRequestPayment"
    PUT_BUCKET_TAGGING = "PutBucketTagging"
    PUT_BUCKET_VERSIONING = "PutBucketVersioning"
    PUT_BUCKET_WEBSITE = "PutBucketWebsite"
    PUT_OBJECT = "PutObject"
    PUT_OBJECT_ACL = "PutObjectAcl"
    PUT_OBJECT_ANNOTATION = "PutObjectAnnotation"
    PUT_OBJECT_LEGAL_HOLD = "PutObjectLegalHold"
    PUT_OBJECT_LOCK_CONFIGURATION = "PutObjectLockConfiguration"
    PUT_OBJECT_RETENTION = "PutObjectRetention"
    PUT_OBJECT_TAGGING = "PutObjectTagging"
    PUT_PUBLIC_ACCESS_BLOCK = "PutPublicAccessBlock"
    RENAME_OBJECT = "RenameObject"
    RESTORE_OBJECT = "RestoreObject"
    SELECT_OBJECT_CONTENT = "SelectObjectContent"
    UPDATE_BUCKET_METADATA_ANNOTATION_TABLE_CONFIGURATION = "UpdateBucketMetadataAnnotationTableConfiguration"
    UPDATE_BUCKET_METADATA_INVENTORY_TABLE_CONFIGURATION = "UpdateBucketMetadataInventoryTableConfiguration"
    UPDATE_BUCKET_METADATA_JOURNAL_TABLE_CONFIGURATION = "UpdateBucketMetadataJournalTableConfiguration"
    UPDATE_OBJECT_ENCRYPTION = "UpdateObjectEncryption"
    UPLOAD_PART = "UploadPart"
    UPLOAD_PART_COPY = "UploadPartCopy"


class Scope(Enum):
    """What the path names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Support(Enum):
    YES = "yes"
    PARTIAL = "partial"  # DESIGN.md says which part
    ABSENT = "answers that nothing is configured"  # NOT_CONFIGURED or EMPTY
    NO = "501"


class Row(NamedTuple):
    """A request is this operation when method and scope fit and every marker (and the header, if any) is there."""

    operation: Operation
    method: str
    scope: Scope
    markers: tuple[str, ...] = ()
    header: str = ""
    support: Support = Support.NO
    parameters: frozenset[str] = frozenset()  # that it understands, beside the markers
    conditions: frozenset[str] = frozenset()  # conditional headers that it obeys
    headers: frozenset[str] = frozenset()  # x-amz-* headers that it obeys, beside those of every operation


_READ = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"))
_WRITE = frozenset(("if-match", "if-none-match"))
_DELETE = frozenset(("if-match", "x-amz-if-match-size", "x-amz-if-match-last-modified-time"))
_RESPONSE = " ".join(
    f"response-{name}"
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
)


def _row(
    operation: Operation,
    route: str,
    support: Support = Support.NO,
    parameters: str = "",
    *,
    header: str = "",
    conditions: frozenset[str] = frozenset(),
    headers: str = "",
) -> Row:
    """`route`: method, path and markers as in "PUT /bucket/key?partNumber&uploadId"."""
    method, _, target = route.partition(" ")
    path, _, query = target.partition("?")
    scope = {"/": Scope.SERVICE, "/bucket": Scope.BUCKET, "/bucket/key": Scope.OBJECT}[path]
    markers = tuple(query.split("&")) if query else ()
    return Row(
        operation,
        method,
        scope,
        markers,
        header,
        support,
        frozenset(parameters.split()),
        conditions,
        frozenset(headers.split()),
    )


_O = Operation
_YES, _PARTIAL, _ABSENT = Support.YES, Support.PARTIAL, Support.ABSENT
_OF_SOURCE = f"{encryption.SOURCE_HEADERS} {owners.EXPECTED_SOURCE}"
_NEW_BUCKET = f"{locks.BUCKET_HEADER} {acls.OWNERSHIP_HEADER} {acls.HEADERS}"
_NEW_OBJECT = f"{encryption.WRITE_HEADERS} {locks.WRITE_HEADERS} {acls.HEADERS} x-amz-tagging"

TABLE: tuple[Row, ...] = (
    # service
    _row(_O.LIST_BUCKETS, "GET /", _YES, "prefix max-buckets continuation-token bucket-region"),
    # bucket
    _row(_O.CREATE_BUCKET, "PUT /bucket", _PARTIAL, headers=_NEW_BUCKET),
    _row(_O.HEAD_BUCKET, "HEAD /bucket", _YES),
    _row(_O.DELETE_BUCKET, "DELETE /bucket", _YES),
    _row(_O.GET_BUCKET_LOCATION, "GET /bucket?location", _YES),
    _row(_O.GET_BUCKET_VERSIONING, "GET /bucket?versioning", _YES),
    _row(_O.PUT_BUCKET_VERSIONING, "PUT /bucket?versioning", _PARTIAL),
    _row(_O.GET_BUCKET_CORS, "GET /bucket?cors", _YES),
    _row(_O.PUT_BUCKET_CORS, "PUT /bucket?cors", _YES),
    _row(_O.DELETE_BUCKET_CORS, "DELETE /bucket?cors", _YES),
    _row(_O.GET_BUCKET_TAGGING, "GET /bucket?tagging", _YES),
    _row(_O.PUT_BUCKET_TAGGING, "PUT /bucket?tagging", _YES),
    _row(_O.DELETE_BUCKET_TAGGING, "DELETE /bucket?tagging", _YES),
    _row(_O.GET_OBJECT_LOCK_CONFIGURATION, "GET /bucket?object-lock", _YES),
    _row(_O.PUT_OBJECT_LOCK_CONFIGURATION, "PUT /bucket?object-lock", _YES),
    _row(_O.GET_BUCKET_ENCRYPTION, "GET /bucket?encryption", _YES),
    _row(_O.PUT_BUCKET_ENCRYPTION, "PUT /bucket?encryption", _PARTIAL),
    _row(_O.DELETE_BUCKET_ENCRYPTION, "DELETE /bucket?encryption", _YES),
    _row(_O.GET_BUCKET_INVENTORY_CONFIGURATION, "GET /bucket?inventory&id", _YES),
    _row(_O.LIST_BUCKET_INVENTORY_CONFIGURATIONS, "GET /bucket?inventory", _YES, "continuation-token"),
    _row(_O.PUT_BUCKET_INVENTORY_CONFIGURATION, "PUT /bucket?inventory", _PARTIAL, "id"),
    _row(_O.DELETE_BUCKET_INVENTORY_CONFIGURATION, "DELETE /bucket?inventory", _YES, "id"),
    _row(_O.GET_BUCKET_POLICY, "GET /bucket?policy", _YES),
    _row(_O.PUT_BUCKET_POLICY, "PUT /bucket?policy", _YES, headers="x-amz-confirm-remove-self-bucket-access"),
    _row(_O.DELETE_BUCKET_POLICY, "DELETE /bucket?policy", _YES),
    _row(_O.GET_BUCKET_POLICY_STATUS, "GET /bucket?policyStatus", _YES),
    _row(_O.GET_PUBLIC_ACCESS_BLOCK, "GET /bucket?publicAccessBlock", _YES),
    _row(_O.PUT_PUBLIC_ACCESS_BLOCK, "PUT /bucket?publicAccessBlock", _YES),
    _row(_O.DELETE_PUBLIC_ACCESS_BLOCK, "DELETE /bucket?publicAccessBlock", _YES),
    _row(_O.GET_BUCKET_OWNERSHIP_CONTROLS, "GET /bucket?ownershipControls", _YES),
    _row(_O.PUT_BUCKET_OWNERSHIP_CONTROLS, "PUT /bucket?ownershipControls", _YES),
    _row(_O.DELETE_BUCKET_OWNERSHIP_CONTROLS, "DELETE /bucket?ownershipControls", _YES),
    _row(_O.GET_BUCKET_NOTIFICATION_CONFIGURATION, "GET /bucket?notification", _YES),
    _row(
        _O.PUT_BUCKET_NOTIFICATION_CONFIGURATION,
        "PUT /bucket?notification",
        _PARTIAL,
        headers="x-amz-skip-destination-validation",
    ),
    _row(_O.GET_BUCKET_LIFECYCLE_CONFIGURATION, "GET /bucket?lifecycle", _YES, "withUpdatedAt"),
    _row(
        _O.PUT_BUCKET_LIFECYCLE_CONFIGURATION,
        "PUT /bucket?lifecycle",
        _PARTIAL,
        headers=lifecycle.MINIMUM_HEADER,
    ),
    _row(_O.DELETE_BUCKET_LIFECYCLE, "DELETE /bucket?lifecycle", _YES),
    _row(_O.GET_BUCKET_ACL, "GET /bucket?acl", _PARTIAL),
    _row(_O.PUT_BUCKET_ACL, "PUT /bucket?acl", _PARTIAL, headers=acls.HEADERS),
    _row(_O.LIST_OBJECTS, "GET /bucket", _YES, "prefix delimiter marker max-keys encoding-type"),
    _row(
        _O.LIST_OBJECTS_V2,
        "GET /bucket?list-type",
        _YES,
        "prefix delimiter continuation-token start-after max-keys fetch-owner encoding-type metadata",
    ),
    _row(
        _O.LIST_OBJECT_VERSIONS,
        "GET /bucket?versions",
        _YES,
        "prefix delimiter key-marker version-id-marker max-keys encoding-type metadata",
    ),
    _row(
        _O.LIST_MULTIPART_UPLOADS,
        "GET /bucket?uploads",
        _YES,
        "prefix delimiter key-marker upload-id-marker max-uploads encoding-type",
    ),
    _row(_O.DELETE_OBJECTS, "POST /bucket?delete", _YES, headers="x-amz-bypass-governance-retention"),
    # object
    _row(
        _O.PUT_OBJECT,
        "PUT /bucket/key",
        _PARTIAL,
        conditions=_WRITE,
        headers=f"{_NEW_OBJECT} x-amz-write-offset-bytes",
    ),
    _row(_O.POST_OBJECT, "POST /bucket", _YES),
    _row(
        _O.COPY_OBJECT,
        "PUT /bucket/key",
        _PARTIAL,
        header="x-amz-copy-source",
        conditions=_WRITE,
        headers=f"{_NEW_OBJECT} x-amz-tagging-directive {_OF_SOURCE}",
    ),
    _row(_O.RENAME_OBJECT, "PUT /bucket/key?renameObject", _PARTIAL, conditions=_WRITE, headers=rename.HEADERS),
    _row(
        _O.GET_OBJECT,
        "GET /bucket/key",
        _YES,
        "partNumber versionId " + _RESPONSE,
        conditions=_READ,
        headers=encryption.READ_HEADERS,
    ),
    _row(
        _O.HEAD_OBJECT,
        "HEAD /bucket/key",
        _YES,
        "partNumber versionId " + _RESPONSE,
        conditions=_READ,
        headers=encryption.READ_HEADERS,
    ),
    _row(
        _O.DELETE_OBJECT,
        "DELETE /bucket/key",
        _YES,
        "versionId",
        conditions=_DELETE,
        headers="x-amz-bypass-governance-retention",
    ),
    _row(_O.GET_OBJECT_TAGGING, "GET /bucket/key?tagging", _YES, "versionId"),
    _row(_O.PUT_OBJECT_TAGGING, "PUT /bucket/key?tagging", _YES, "versionId"),
    _row(_O.DELETE_OBJECT_TAGGING, "DELETE /bucket/key?tagging", _YES, "versionId"),
    _row(_O.GET_OBJECT_RETENTION, "GET /bucket/key?retention", _YES, "versionId"),
    _row(_O.PUT_OBJECT_RETENTION, "PUT /bucket/key?retention", _YES, "versionId", headers=locks.BYPASS_HEADER),
    _row(_O.GET_OBJECT_LEGAL_HOLD, "GET /bucket/key?legal-hold", _YES, "versionId"),
    _row(_O.PUT_OBJECT_LEGAL_HOLD, "PUT /bucket/key?legal-hold", _YES, "versionId"),
    _row(
        _O.GET_OBJECT_ATTRIBUTES,
        "GET /bucket/key?attributes",
        _YES,
        "versionId",
        headers=f"x-amz-object-attributes x-amz-max-parts x-amz-part-number-marker {encryption.READ_HEADERS}",
    ),
    _row(_O.GET_OBJECT_ACL, "GET /bucket/key?acl", _PARTIAL, "versionId"),
    _row(_O.PUT_OBJECT_ACL, "PUT /bucket/key?acl", _PARTIAL, "versionId", headers=acls.HEADERS),
    _row(_O.CREATE_MULTIPART_UPLOAD, "POST /bucket/key?uploads", _PARTIAL, headers=_NEW_OBJECT),
    _row(_O.UPLOAD_PART, "PUT /bucket/key?partNumber&uploadId", _YES, headers=encryption.READ_HEADERS),
    _row(
        _O.UPLOAD_PART_COPY,
        "PUT /bucket/key?partNumber&uploadId",
        _YES,
        header="x-amz-copy-source",
        headers=f"{encryption.READ_HEADERS} {_OF_SOURCE}",
    ),
    _row(
        _O.LIST_PARTS,
        "GET /bucket/key?uploadId",
        _YES,
        "part-number-marker max-parts encoding-type",
        headers=encryption.CUSTOMER_HEADERS,
    ),
    _row(
        _O.COMPLETE_MULTIPART_UPLOAD,
        "POST /bucket/key?uploadId",
        _YES,
        conditions=_WRITE,
        headers=encryption.CUSTOMER_HEADERS,
    ),
    _row(_O.ABORT_MULTIPART_UPLOAD, "DELETE /bucket/key?uploadId", _YES),
    # configuration that cannot exist here, asked for
    _row(_O.GET_BUCKET_ACCELERATE_CONFIGURATION, "GET /bucket?accelerate", _ABSENT),
    _row(_O.GET_BUCKET_ANALYTICS_CONFIGURATION, "GET /bucket?analytics&id", _ABSENT),
    _row(_O.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION, "GET /bucket?intelligent-tiering&id", _ABSENT),
    _row(_O.GET_BUCKET_LOGGING, "GET /bucket?logging", _ABSENT),
    _row(_O.GET_BUCKET_METRICS_CONFIGURATION, "GET /bucket?metrics&id", _ABSENT),
    _row(_O.GET_BUCKET_REPLICATION, "GET /bucket?replication", _ABSENT),
    _row(_O.GET_BUCKET_REQUEST_PAYMENT, "GET /bucket?requestPayment", _ABSENT),
    _row(_O.GET_BUCKET_WEBSITE, "GET /bucket?website", _ABSENT),
    _row(_O.LIST_BUCKET_ANALYTICS_CONFIGURATIONS, "GET /bucket?analytics", _ABSENT, "continuation-token"),
    _row(
        _O.LIST_BUCKET_INTELLIGENT_TIERING_CONFIGURATIONS,
        "GET /bucket?intelligent-tiering",
        _ABSENT,
        "continuation-token",
    ),
    _row(_O.LIST_BUCKET_METRICS_CONFIGURATIONS, "GET /bucket?metrics", _ABSENT, "continuation-token"),
    # configuration that cannot exist here, deleted
    _row(_O.DELETE_BUCKET_REPLICATION, "DELETE /bucket?replication", _ABSENT),
    _row(_O.DELETE_BUCKET_WEBSITE, "DELETE /bucket?website", _ABSENT),
    _row(_O.DELETE_BUCKET_ANALYTICS_CONFIGURATION, "DELETE /bucket?analytics", _ABSENT, "id"),
    _row(_O.DELETE_BUCKET_INTELLIGENT_TIERING_CONFIGURATION, "DELETE /bucket?intelligent-tiering", _ABSENT, "id"),
    _row(_O.DELETE_BUCKET_METRICS_CONFIGURATION, "DELETE /bucket?metrics", _ABSENT, "id"),
    # refused
    _row(_O.CREATE_BUCKET_METADATA_CONFIGURATION, "POST /bucket?metadataConfiguration"),
    _row(_O.CREATE_BUCKET_METADATA_TABLE_CONFIGURATION, "POST /bucket?metadataTable"),
    _row(_O.CREATE_SESSION, "GET /bucket?session"),
    _row(_O.DELETE_BUCKET_METADATA_CONFIGURATION, "DELETE /bucket?metadataConfiguration"),
    _row(_O.DELETE_BUCKET_METADATA_TABLE_CONFIGURATION, "DELETE /bucket?metadataTable"),
    _row(_O.DELETE_OBJECT_ANNOTATION, "DELETE /bucket/key?annotation"),
    _row(_O.GET_BUCKET_ABAC, "GET /bucket?abac"),
    _row(_O.GET_BUCKET_METADATA_CONFIGURATION, "GET /bucket?metadataConfiguration"),
    _row(_O.GET_BUCKET_METADATA_TABLE_CONFIGURATION, "GET /bucket?metadataTable"),
    _row(_O.GET_OBJECT_ANNOTATION, "GET /bucket/key?annotation&annotationName"),
    _row(_O.GET_OBJECT_TORRENT, "GET /bucket/key?torrent"),
    _row(_O.LIST_DIRECTORY_BUCKETS, "GET /?max-directory-buckets"),
    _row(_O.LIST_OBJECT_ANNOTATIONS, "GET /bucket/key?annotation"),
    _row(_O.PUT_BUCKET_ABAC, "PUT /bucket?abac"),
    _row(_O.PUT_BUCKET_ACCELERATE_CONFIGURATION, "PUT /bucket?accelerate"),
    _row(_O.PUT_BUCKET_ANALYTICS_CONFIGURATION, "PUT /bucket?analytics"),
    _row(_O.PUT_BUCKET_INTELLIGENT_TIERING_CONFIGURATION, "PUT /bucket?intelligent-tiering"),
    _row(_O.PUT_BUCKET_LOGGING, "PUT /bucket?logging"),
    _row(_O.PUT_BUCKET_METRICS_CONFIGURATION, "PUT /bucket?metrics"),
    _row(_O.PUT_BUCKET_REPLICATION, "PUT /bucket?replication"),
    _row(_O.PUT_BUCKET_REQUEST_PAYMENT, "PUT /bucket?requestPayment"),
    _row(_O.PUT_BUCKET_WEBSITE, "PUT /bucket?website"),
    _row(_O.PUT_OBJECT_ANNOTATION, "PUT /bucket/key?annotation"),
    _row(_O.RESTORE_OBJECT, "POST /bucket/key?restore"),
    _row(_O.SELECT_OBJECT_CONTENT, "POST /bucket/key?select"),
    _row(_O.UPDATE_BUCKET_METADATA_ANNOTATION_TABLE_CONFIGURATION, "PUT /bucket?metadataAnnotationTable"),
    _row(_O.UPDATE_BUCKET_METADATA_INVENTORY_TABLE_CONFIGURATION, "PUT /bucket?metadataInventoryTable"),
    _row(_O.UPDATE_BUCKET_METADATA_JOURNAL_TABLE_CONFIGURATION, "PUT /bucket?metadataJournalTable"),
    _row(_O.UPDATE_OBJECT_ENCRYPTION, "PUT /bucket/key?encryption"),
)

# The truth about configuration that cannot exist here. Once the bucket (and the key, if one is named) is known to
# exist: raise S3Error(*NOT_CONFIGURED[operation]), or answer 200 with EMPTY[operation], or 204 if it is in DELETED.
NOT_CONFIGURED: Mapping[Operation, tuple[str, str | None]] = {
    _O.DELETE_BUCKET_ANALYTICS_CONFIGURATION: ("NoSuchConfiguration", None),
    _O.DELETE_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: ("NoSuchConfiguration", None),
    _O.DELETE_BUCKET_METRICS_CONFIGURATION: ("NoSuchConfiguration", None),
    _O.GET_BUCKET_ANALYTICS_CONFIGURATION: ("NoSuchConfiguration", None),
    _O.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: ("NoSuchConfiguration", None),
    _O.GET_BUCKET_METRICS_CONFIGURATION: ("NoSuchConfiguration", None),
    _O.GET_BUCKET_REPLICATION: ("ReplicationConfigurationNotFoundError", None),
    _O.GET_BUCKET_WEBSITE: ("NoSuchWebsiteConfiguration", None),
}
_EMPTY_LIST = xml.element("IsTruncated", False)
EMPTY: Mapping[Operation, bytes] = {
    _O.GET_BUCKET_ACCELERATE_CONFIGURATION: xml.document("AccelerateConfiguration", ""),
    _O.GET_BUCKET_LOGGING: xml.document("BucketLoggingStatus", ""),
    _O.GET_BUCKET_REQUEST_PAYMENT: xml.document("RequestPaymentConfiguration", xml.element("Payer", "BucketOwner")),
    _O.LIST_BUCKET_ANALYTICS_CONFIGURATIONS: xml.document("ListBucketAnalyticsConfigurationResult", _EMPTY_LIST),
    _O.LIST_BUCKET_INTELLIGENT_TIERING_CONFIGURATIONS: xml.document(
        "ListBucketIntelligentTieringConfigurationsOutput", _EMPTY_LIST
    ),
    _O.LIST_BUCKET_METRICS_CONFIGURATIONS: xml.document("ListMetricsConfigurationsResult", _EMPTY_LIST),
}
DELETED = frozenset(
    (
        _O.DELETE_BUCKET_REPLICATION,
        _O.DELETE_BUCKET_WEBSITE,
    )
)

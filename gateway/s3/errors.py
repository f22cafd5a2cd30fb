"""S3 errors: one table of codes, the exception that carries one, and what the errors of objstore become in S3.

Not here: the decision which error it is. Invariants: every code the gateway may answer is in CODES, and every
class of `objstore.model.errors` has an S3 form (the most specific of its ancestors in `_FROM_MODEL`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from email.utils import formatdate
from typing import NamedTuple

from gateway.s3 import xml
from objstore.model import errors as model

RETRY_AFTER_S = 1  # what a 503 advises: longer than an election of a handoff, shorter than an SDK's patience


class Code(NamedTuple):
    status: int
    message: str


CODES: Mapping[str, Code] = {
    "AccessControlListNotSupported": Code(400, "The bucket does not allow ACLs"),
    "AccessDenied": Code(403, "Access Denied"),
    "AccessForbidden": Code(403, "The rules of the bucket do not allow this to a page of that origin."),
    "AuthorizationHeaderMalformed": Code(400, "The Authorization header is malformed."),
    "AuthorizationQueryParametersError": Code(400, "The authorization parameters of the query are malformed."),
    "BadRequest": Code(400, "The request lacks something that it needs."),
    "BadDigest": Code(400, "The body does not match the checksum that came with it."),
    "BucketAlreadyExists": Code(409, "The bucket exists and belongs to someone else. Choose another name."),
    "BucketAlreadyOwnedByYou": Code(409, "The bucket exists already, and you own it."),
    "BucketNotEmpty": Code(409, "The bucket is not empty. Delete its objects first."),
    "EncryptionTypeMismatch": Code(400, "The object is encrypted in another way than the request says."),
    "EntityTooLarge": Code(400, "The body is larger than this operation allows."),
    "EntityTooSmall": Code(400, "A part other than the last is smaller than 5 MiB."),
    "ExpiredToken": Code(400, "The provided token has expired."),
    "IllegalLocationConstraintException": Code(400, "The location constraint is not the region of this service."),
    "IllegalVersioningConfigurationException": Code(400, "The versioning configuration is not valid."),
    "IncompleteBody": Code(400, "The request body terminated unexpectedly"),
    "InsufficientStorage": Code(507, "The cluster is full. Delete objects or add capacity; deletes still work."),
    "InternalError": Code(500, "An internal error occurred. The log has details under this request id."),
    "InvalidAccessKeyId": Code(403, "The access key id is not known to this service."),
    "InvalidArgument": Code(400, "An argument is not valid."),
    "InvalidBucketAclWithObjectOwnership": Code(
        400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
    ),
    "InvalidBucketName": Code(400, "The bucket name breaks the naming rules."),
    "InvalidBucketState": Code(409, "The request is not valid for the current state of the bucket."),
    "InvalidDigest": Code(400, "The Content-MD5 you specified was invalid."),
    "InvalidEncryptionAlgorithmError": Code(400, "The encryption request is not valid. The valid value is AES256."),
    "InvalidPart": Code(400, "A part was not found, or its ETag is not the one given."),
    "InvalidPartNumber": Code(416, "The object does not have that part."),
    "InvalidPartOrder": Code(400, "The parts are not in ascending order of their numbers."),
    "InvalidPolicyDocument": Code(400, "The content of the form does not meet the conditions of a policy document."),
    "InvalidRange": Code(416, "The range lies outside the object."),
    "InvalidRequest": Code(400, "The request is not valid."),
    "InvalidS3DestinationBucket": Code(400, "The destination bucket does not exist."),
    "InvalidStorageClass": Code(400, "The storage class you specified is not valid"),
    "InvalidTag": Code(400, "A tag is not valid."),
    "InvalidToken": Code(400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": Code(400, "The request target cannot be decoded."),
    "InvalidWriteOffset": Code(400, "The write offset is not the size of the object."),
    "KeyTooLongError": Code(400, "The key is longer than 1024 bytes of UTF-8."),
    "MalformedACLError": Code(400, "The ACL is malformed, or not what this operation expects."),
    "MalformedPOSTRequest": Code(400, "The body of your POST request is not well-formed multipart/form-data."),
    "MalformedPolicy": Code(400, "The policy is malformed, or not what this operation expects."),
    "MalformedTrailerError": Code(
        400, "The request contained trailing data that was not well-formed or did not conform to our published schema."
    ),
    "MalformedXML": Code(400, "The XML of the body is malformed, or not what this operation expects."),
    "MaxPostPreDataLengthExceededError": Code(
        400, "Your POST request fields preceding the upload file were too large."
    ),
    "MaxVersionsExceeded": Code(400, "The key has as many versions as it can hold. Delete some of them."),
    "MetadataTooLarge": Code(400, "User metadata is larger than 2048 bytes."),
    "MethodNotAllowed": Code(405, "The method is not allowed on this resource."),
    "MissingContentLength": Code(411, "You must provide the Content-Length HTTP header."),
    "MissingSecurityHeader": Code(400, "The request lacks a required header."),
    "NoSuchBucket": Code(404, "The bucket does not exist."),
    "NoSuchBucketPolicy": Code(404, "The bucket has no policy."),
    "NoSuchConfiguration": Code(404, "The configuration does not exist."),
    "NoSuchCORSConfiguration": Code(404, "The CORS configuration does not exist"),
    "NoSuchKey": Code(404, "The key does not exist."),
    "NoSuchLifecycleConfiguration": Code(404, "The bucket has no lifecycle configuration."),
    "NoSuchObjectLockConfiguration": Code(404, "The specified object does not have a ObjectLock configuration"),
    "NoSuchPublicAccessBlockConfiguration": Code(404, "The bucket has no public access block configuration."),
    "NoSuchTagSet": Code(404, "The TagSet does not exist"),
    "NoSuchUpload": Code(404, "The multipart upload does not exist: never started, aborted or completed."),
    "NoSuchVersion": Code(404, "The version does not exist."),
    "NoSuchWebsiteConfiguration": Code(404, "The bucket has no website configuration."),
    "NotImplemented": Code(501, "The request asks for something that is not implemented."),
    "ObjectLockConfigurationNotFoundError": Code(404, "Object Lock configuration does not exist for this bucket"),
    "OperationAborted": Code(409, "A conflicting operation is in progress. Try again."),
    "OwnershipControlsNotFoundError": Code(404, "The bucket has no ownership controls."),
    "PreconditionFailed": Code(412, "A condition of the request does not hold."),
    "QuotaExceeded": Code(403, "The quota of the bucket is used up. Delete objects, or raise it."),
    "ReplicationConfigurationNotFoundError": Code(404, "The bucket has no replication configuration."),
    "RequestHeaderSectionTooLarge": Code(400, "The request line or a header is longer than this service allows."),
    "RequestTimeout": Code(400, "The body did not arrive in time."),
    "RequestTimeTooSkewed": Code(403, "The time of the request is too far from the time of this server."),
    "ServerSideEncryptionConfigurationNotFoundError": Code(404, "The bucket has no encryption configuration."),
    "ServiceUnavailable": Code(503, "Too few replicas answer. Try again."),
    "SignatureDoesNotMatch": Code(
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
    "SlowDown": Code(503, "Too many requests. Try again, more slowly."),
    "TooManyRenames": Code(400, "As many objects as can be have their bytes from this key. Copy it, and delete it."),
    "TooManyParts": Code(400, "The object has as many parts as it can have. Copy it, and append to the copy."),
    "TooManyConfigurations": Code(400, "The bucket has as many configurations of this kind as it can."),
    "UnexpectedContent": Code(400, "This request does not support content."),
    "UnresolvableGrantByEmailAddress": Code(400, "The e-mail address is not that of any account here."),
    "UserKeyMustBeSpecified": Code(400, "A key must be given."),
    "XAmzContentSHA256Mismatch": Code(
        400, "The provided 'x-amz-content-sha256' header does not match what was computed."
    ),
}


class S3Error(Exception):
    """An answer other than success. `str(e)` is the message a person reads.

    code      S3 error code, a key of CODES (another one is a bug: KeyError)
    status    HTTP status of the code
    message   default of CODES, or the one given
    extra     further XML elements in order, e.g. {"BucketName": "b"}
    headers   response headers to send with it, e.g. {"Retry-After": "1"}
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        extra: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        entry = CODES[code]
        self.code = code
        self.status = entry.status
        self.message = message or entry.message
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        if entry.status == 503:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        super().__init__(self.message)


_FROM_MODEL: Mapping[type[model.ObjstoreError], str] = {
    model.ObjstoreError: "InternalError",
    model.InvalidRequest: "InvalidRequest",
    model.ConfigError: "InternalError",
    model.BadDigest: "BadDigest",
    model.IncompleteBody: "IncompleteBody",
    model.NotFound: "NoSuchKey",
    model.NoSuchBucket: "NoSuchBucket",
    model.NoSuchKey: "NoSuchKey",
    model.IsDeleteMarker: "NoSuchKey",
    model.NoSuchUpload: "NoSuchUpload",
    model.NoSuchVersion: "NoSuchVersion",
    model.Conflict: "OperationAborted",
    model.PreconditionFailed: "PreconditionFailed",
    model.BucketAlreadyExists: "BucketAlreadyOwnedByYou",  # every access key of a cluster acts for one owner
    model.BucketNotEmpty: "BucketNotEmpty",
    model.InvalidBucketState: "InvalidBucketState",
    model.ObjectLocked: "AccessDenied",
    model.TooManyVersions: "MaxVersionsExceeded",
    model.QuotaExceeded: "QuotaExceeded",
    model.InvalidWriteOffset: "InvalidWriteOffset",
    model.TooManyParts: "TooManyParts",
    model.NotAppendable: "InvalidRequest",
    model.NotRenamable: "InvalidRequest",
    model.TooManyRenames: "TooManyRenames",
    model.GivenUp: "ServiceUnavailable",
    model.InvalidPart: "InvalidPart",
    model.InvalidPartOrder: "InvalidPartOrder",
    model.PartTooSmall: "EntityTooSmall",
    model.Unavailable: "ServiceUnavailable",
    model.Overloaded: "SlowDown",
    model.InsufficientStorage: "InsufficientStorage",
    model.Corrupt: "InternalError",
    model.Fatal: "InternalError",
}


def from_model(error: model.ObjstoreError) -> S3Error:
    """The S3 form of an error of the engine. A 500 keeps its reason to the log: it names disks and nodes."""
    code = next(_FROM_MODEL[kind] for kind in type(error).__mro__ if kind in _FROM_MODEL)
    if isinstance(error, model.WrongMD5):  # AWS: the one in hex, the other in base64
        calculated = base64.b64encode(error.calculated).decode()
        return S3Error(code, str(error), extra={"ExpectedDigest": error.expected.hex(), "CalculatedDigest": calculated})
    if isinstance(error, model.IsDeleteMarker):
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": error.version_id}
        if error.named:
            modified = formatdate(error.modified_ms // 1000, usegmt=True)
            headers |= {"Allow": "DELETE", "Last-Modified": modified}
            return S3Error("MethodNotAllowed", str(error), headers=headers)
        return S3Error(code, str(error), headers=headers)
    return S3Error(code, None if code == "InternalError" else str(error) or None)


def render_error(error: S3Error, *, resource: str, request_id: str, host_id: str = "") -> bytes:
    """The XML body. Not for HEAD and 304, which have none."""
    fields = {"Code": error.code, "Message": error.message, **error.extra, "Resource": resource}
    fields["RequestId"] = request_id
    if host_id:
        fields["HostId"] = host_id
    return xml.document("Error", "".join(xml.element(name, value) for name, value in fields.items()), namespace=False)

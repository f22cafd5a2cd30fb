"""PutObject with x-amz-write-offset-bytes: what such a request may say of an object that is there already."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.s3.encryption import Wanted
from gateway.s3.errors import S3Error
from gateway.s3.metadata import KEPT, USER_PREFIX
from objstore.model.sealed import BY_CLIENT, BY_CLUSTER, Sealed

OFFSET_HEADER = "x-amz-write-offset-bytes"
SIZE_HEADER = "x-amz-object-size"  # of the answer
_LOCKS = "x-amz-object-lock-"


def write_offset(headers: Mapping[str, str]) -> int:
    """S3Error InvalidArgument."""
    value = headers[OFFSET_HEADER].strip()
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        text = f"{OFFSET_HEADER} must be a number of bytes that is not negative."
        raise S3Error("InvalidArgument", text, extra={"ArgumentName": OFFSET_HEADER, "ArgumentValue": value})
    return int(value)


def check_headers(request: Mapping[str, str], wanted: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """What is known of an object does not change with an append. `wanted`: what a new object would keep of this
    request; what it says of the content may be repeated. S3Error InvalidRequest."""
    if any(name.startswith(USER_PREFIX) for name in request):
        text = "Cannot specify both a write offset value and user-defined object metadata for existing objects."
        raise S3Error("InvalidRequest", text)
    for name in request:
        differs = name in KEPT and name in wanted and wanted[name] != stored.get(name)
        if differs or name == "x-amz-tagging" or name.startswith(_LOCKS):
            raise S3Error(
                "InvalidRequest", f"Cannot specify both a write offset value and {name} for existing objects."
            )


def check_encryption(sealed: Sealed | None, wanted: Wanted) -> None:
    """What the cluster encrypts need not be named again. S3Error EncryptionTypeMismatch."""
    named = BY_CLIENT if wanted.customer is not None else BY_CLUSTER if wanted.cluster else None
    have = sealed.kind if sealed is not None else None
    if named != have and not (named is None and have == BY_CLUSTER):
        raise S3Error("EncryptionTypeMismatch")

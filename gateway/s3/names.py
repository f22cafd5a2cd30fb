"""Rules for bucket names and object keys.

Bucket names follow the rules of AWS for general purpose buckets, so that every bucket made here may also be made
there and works as a DNS label. Keys are any UTF-8 text of 1 to 1024 bytes, kept as they are: `a//b`, `.` and `..`
are different keys like any others.
"""

from __future__ import annotations

import re

from gateway.s3.errors import S3Error
from objstore.model.limits import BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", re.ASCII)
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+", re.ASCII)
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> None:
    """S3Error InvalidBucketName, saying which rule is broken, unless `name` may name a bucket.

    For every request with a bucket: what cannot exist needs no lookup.
    """
    if reason := _bucket_fault(name):
        raise S3Error("InvalidBucketName", f"The bucket name is not valid: {reason}.", extra={"BucketName": name})


def _bucket_fault(name: str) -> str:
    if not 3 <= len(name) <= BUCKET_NAME_BYTES_MAX:
        return f"it must have 3 to {BUCKET_NAME_BYTES_MAX} characters, not {len(name)}"
    if not _BUCKET.fullmatch(name):
        return "only a-z, 0-9, '.' and '-' are allowed, and it must begin and end with a letter or digit"
    if ".." in name or ".-" in name or "-." in name:
        return "a '.' must stand between letters or digits"
    if _IPV4.fullmatch(name):
        return "it must not look like an IPv4 address"
    for prefix in _RESERVED_PREFIXES:
        if name.startswith(prefix):
            return f"the prefix {prefix} is reserved"
    for suffix in _RESERVED_SUFFIXES:
        if name.endswith(suffix):
            return f"the suffix {suffix} is reserved"
    return ""


def check_key(key: str) -> None:
    """S3Error unless `key` has 1 to 1024 bytes of UTF-8: UserKeyMustBeSpecified, KeyTooLongError, InvalidURI."""
    if not key:
        raise S3Error("UserKeyMustBeSpecified")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise S3Error("InvalidURI", "The key is not valid UTF-8.") from error
    if size > KEY_BYTES_MAX:
        extra = {"Size": str(size), "MaxSizeAllowed": str(KEY_BYTES_MAX)}
        raise S3Error("KeyTooLongError", f"The key has {size} bytes, at most {KEY_BYTES_MAX} are allowed.", extra=extra)

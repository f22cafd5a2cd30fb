"""Which operation a request asks for; whatever is not implemented is refused here, by name.

Refusing is the point: a header or parameter that changes the meaning of a request must be obeyed or answered with
501, never skipped. So the tables below list what is *accepted*; everything else that begins with x-amz-, and every
other parameter, is refused without having to be known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.s3 import owners
from gateway.s3.checksums import ALGORITHMS, header_name
from gateway.s3.errors import S3Error
from gateway.s3.names import check_bucket_name, check_key
from gateway.s3.operations import TABLE, Operation, Row, Scope, Support
from gateway.s3.sigv4 import TOKEN
from gateway.s3.target import Query, effective_headers, percent_decode

# Implemented, or without an effect that could be missed.
ACCEPTED_HEADERS = frozenset(
    (
        "x-amz-checksum-algorithm",
        "x-amz-checksum-mode",
        "x-amz-checksum-type",
        "x-amz-content-sha256",
        "x-amz-copy-source",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-unmodified-since",
        "x-amz-copy-source-range",
        "x-amz-date",
        "x-amz-decoded-content-length",
        owners.EXPECTED,
        "x-amz-metadata-directive",
        "x-amz-mp-object-size",
        "x-amz-request-payer",  # nobody pays
        TOKEN,
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
        "x-amz-user-agent",
        *(header_name(algorithm) for algorithm in ALGORITHMS),
    )
)
ACCEPTED_PREFIXES = ("x-amz-meta-",)
# Accepted only when they ask for what is the case anyway.
ACCEPTED_VALUES: Mapping[str, frozenset[str]] = {
    "x-amz-acl": frozenset(("private", "bucket-owner-full-control")),
    "x-amz-api-version": frozenset(("2006-03-01",)),  # the C++ SDK, thus pyarrow, sends the only one that there is
    "x-amz-object-ownership": frozenset(("BucketOwnerEnforced",)),
    "x-amz-storage-class": frozenset(("STANDARD",)),
}
_STORAGE_CLASSES = frozenset(("DEEP_ARCHIVE", "EXPRESS_ONEZONE", "FSX_ONTAP", "FSX_OPENZFS", "GLACIER", "GLACIER_IR",
                              "INTELLIGENT_TIERING", "ONEZONE_IA", "OUTPOSTS", "REDUCED_REDUNDANCY", "SNOW",
                              "STANDARD_IA"))  # fmt: skip
_CONDITIONS = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"))
_COPY_HEADERS = "x-amz-copy-source"
_SCOPE_NAMES = {Scope.SERVICE: "the service", Scope.BUCKET: "a bucket", Scope.OBJECT: "an object"}
_VERSION_ID = re.compile("[0-9a-f]{32}")
_OF_OLD_URLS = frozenset(("AWSAccessKeyId", "Signature", "Expires", "content-type", "content-md5"))  # see sigv2
_IGNORED_PARAMETERS = "x-"  # AWS reserves these for the log; x-amz-* ones count as headers


def _by_resource() -> dict[tuple[str, Scope], tuple[Row, ...]]:
    """The rows of each method and scope, the most specific first."""
    found: dict[tuple[str, Scope], list[Row]] = {}
    for row in sorted(TABLE, key=lambda row: -2 * len(row.markers) - bool(row.header)):
        found.setdefault((row.method, row.scope), []).append(row)
    return {resource: tuple(rows) for resource, rows in found.items()}


_ROWS = _by_resource()


def route(method: str, bucket: str | None, key: str | None, query: Query, headers: Mapping[str, str]) -> Operation:
    """An operation that handlers must serve: an implemented one, or one of NOT_CONFIGURED or EMPTY.

    S3Error NotImplemented (501, names the header or parameter), MethodNotAllowed, InvalidBucketName,
    KeyTooLongError, InvalidArgument (versionId), and what `_check_value` says of storage classes.
    """
    scope = Scope.SERVICE if bucket is None else Scope.BUCKET if key is None else Scope.OBJECT
    if bucket is not None:
        check_bucket_name(bucket)
    if key is not None:
        check_key(key)
    row = _match(method, scope, query, headers)
    if row.support is Support.NO:
        raise S3Error("NotImplemented", f"{row.operation.value} is not implemented.")
    _check_parameters(row.operation.value, row.parameters.union(row.markers), query)
    _check_headers(row, effective_headers(headers, query))
    if "versionId" in row.parameters:
        check_version_id(query.get("versionId"))
    return row.operation


def _match(method: str, scope: Scope, query: Query, headers: Mapping[str, str]) -> Row:
    for row in _ROWS.get((method, scope), ()):
        if row.markers and not (query.pairs and all(marker in query for marker in row.markers)):
            continue
        if not row.header or row.header in headers:
            return row
    allowed = sorted({method for method, resource in _ROWS if resource is scope})
    if method in allowed:
        _check_parameters(f"{method} of {_SCOPE_NAMES[scope]}", frozenset(), query)
    message = f"{method} is not a method of {_SCOPE_NAMES[scope]}, or a parameter is missing that says what to do."
    raise S3Error("MethodNotAllowed", message, headers={"Allow": ", ".join(allowed)})


def _check_parameters(what: str, known: frozenset[str], query: Query) -> None:
    if "AWSAccessKeyId" in query:
        known |= _OF_OLD_URLS
    for name, _ in query.pairs:
        if name not in known and not name.lower().startswith(_IGNORED_PARAMETERS):
            message = f"The parameter {name!r} of {what} is not implemented."
            raise S3Error("NotImplemented", message, extra={"ParameterName": name})


def _check_headers(row: Row, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if name.startswith("x-amz-") and not _accepted(row, name, value):
            _check_value(name, value)
            shown = f"{name}: {value}" if name in ACCEPTED_VALUES else name
            raise _refused_header(name, f"The header {shown} is not implemented for {row.operation.value}.")
    if row.method in ("GET", "HEAD") and not row.conditions:
        return  # a list has no ETag and no date: its conditional headers are moot
    for name in _CONDITIONS & headers.keys() - row.conditions:
        raise _refused_header(name, f"{row.operation.value} does not support the condition {name}.")
    if row.method in ("PUT", "POST") and "content-range" in headers:
        raise _refused_header("content-range", "Writing a part of an object (Content-Range) is not implemented.")


def _accepted(row: Row, name: str, value: str) -> bool:
    if name.startswith(_COPY_HEADERS) and row.header != _COPY_HEADERS:
        return False
    if name in ACCEPTED_VALUES and name not in row.headers:
        return value in ACCEPTED_VALUES[name]
    known = name in ACCEPTED_HEADERS or name in row.headers or name in row.conditions
    return known or name.startswith(ACCEPTED_PREFIXES)


def _check_value(name: str, value: str) -> None:
    """The answer of AWS where it says more than that something is not implemented."""
    if name.startswith("x-amz-checksum-"):
        text = "The algorithm type you specified in x-amz-checksum- header is invalid."
        raise S3Error("InvalidRequest", text, extra={"Header": name})
    if name == "x-amz-storage-class" and value not in _STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", extra={"StorageClassRequested": value})


def _refused_header(name: str, message: str) -> S3Error:
    return S3Error("NotImplemented", message, extra={"Header": name})


def check_version_id(version_id: str | None) -> None:
    """InvalidArgument unless None, "null" (of what was written without versioning), or 32 hex digits."""
    if version_id is None or version_id == "null" or _VERSION_ID.fullmatch(version_id):
        return
    message = "Invalid version id specified" if version_id else "Version id cannot be the empty string"
    raise S3Error("InvalidArgument", message, extra={"ArgumentName": "versionId", "ArgumentValue": version_id})


class CopySource(NamedTuple):
    bucket: str
    key: str
    version_id: str | None = None


def copy_source(header: str) -> CopySource:
    """x-amz-copy-source: [/]bucket/key, percent-encoded, perhaps with ?versionId=. S3Error InvalidArgument."""
    path, versioned, version_id = header.partition("?versionId=")
    if versioned:
        check_version_id(version_id)
    if path.startswith("arn:"):
        raise S3Error("NotImplemented", "A copy source given as an ARN is not implemented.")
    bucket, slash, key = percent_decode(path.removeprefix("/")).partition("/")
    if not (bucket and slash and key):
        raise S3Error(
            "InvalidArgument",
            f"x-amz-copy-source must be of the form bucket/key, percent-encoded, not {header}.",
            extra={"ArgumentName": "x-amz-copy-source", "ArgumentValue": header},
        )
    check_bucket_name(bucket)
    check_key(key)
    return CopySource(bucket, key, version_id if versioned else None)

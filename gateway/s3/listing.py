"""Parameters of the list operations, and the tokens that continue them.

Not here: what a page contains (the engine) and how it is written (`answers`). Page sizes above the maximum are
clamped, as AWS does. Tokens are opaque to clients, versioned, and hold only where to go on: no state is kept, so a
token is good on every gateway and for ever.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from gateway.s3.errors import S3Error
from gateway.s3.target import Query
from objstore.engine.types import BucketInfo, ObjectPage, UploadPage, VersionPage
from objstore.model.limits import LIST_PAGE_MAX, PARTS_MAX

BUCKETS_PAGE_MAX = 10_000  # S3
_INTEGER_MAX = (1 << 31) - 1
_TOKEN_VERSION = "1"


@dataclass(frozen=True, slots=True)
class ObjectsParams:
    """engine.list_objects(bucket, prefix=, delimiter=, after=, limit=); with limit 0 do not ask: use EMPTY_OBJECTS."""

    version: int  # 1 | 2
    prefix: str
    delimiter: str
    after: str
    limit: int
    url_encoding: bool
    marker: str = ""  # version 1, as asked
    start_after: str = ""  # version 2, as asked
    token: str | None = None  # version 2, as asked
    fetch_owner: bool = False


@dataclass(frozen=True, slots=True)
class PartsParams:
    upload_id: str
    after: int
    limit: int
    url_encoding: bool


@dataclass(frozen=True, slots=True)
class UploadsParams:
    """after_upload is "" when after_key is, as S3 has it."""

    prefix: str
    delimiter: str
    after_key: str
    after_upload: str
    limit: int
    url_encoding: bool


@dataclass(frozen=True, slots=True)
class VersionsParams:
    prefix: str
    delimiter: str
    after_key: str
    after_version: str
    limit: int
    url_encoding: bool


@dataclass(frozen=True, slots=True)
class BucketsParams:
    prefix: str
    after: str
    limit: int
    token: str
    region: str = ""  # only buckets of this one


EMPTY_OBJECTS = ObjectPage([], [], False, "")
EMPTY_VERSIONS = VersionPage([], [], False)
EMPTY_UPLOADS = UploadPage([], [], False, "", "")


def objects_params(query: Query) -> ObjectsParams:
    """Both versions (list-type=2). S3Error InvalidArgument."""
    prefix, delimiter = query.get("prefix") or "", query.get("delimiter") or ""
    limit, url_encoding = _limit(query, "max-keys", LIST_PAGE_MAX), _url_encoding(query)
    if "list-type" not in query:
        marker = query.get("marker") or ""
        return ObjectsParams(1, prefix, delimiter, marker, limit, url_encoding, marker=marker)
    if query.get("list-type") != "2":
        raise _invalid("list-type", query.get("list-type") or "", "must be 2")
    start_after, token = query.get("start-after") or "", query.get("continuation-token")
    after = decode_token(token) if token else start_after
    fetch_owner = (query.get("fetch-owner") or "").lower() == "true"
    return ObjectsParams(
        2,
        prefix,
        delimiter,
        after,
        limit,
        url_encoding,
        start_after=start_after,
        token=token,
        fetch_owner=fetch_owner,
    )


def parts_params(query: Query) -> PartsParams:
    after = _integer(query, "part-number-marker", 0, PARTS_MAX)
    return PartsParams(
        query.get("uploadId") or "", after, _limit(query, "max-parts", LIST_PAGE_MAX), _url_encoding(query)
    )


def uploads_params(query: Query) -> UploadsParams:
    after_key = query.get("key-marker") or ""
    return UploadsParams(
        query.get("prefix") or "",
        query.get("delimiter") or "",
        after_key,
        (query.get("upload-id-marker") or "") if after_key else "",
        _limit(query, "max-uploads", LIST_PAGE_MAX),
        _url_encoding(query),
    )


def versions_params(query: Query) -> VersionsParams:
    after_key, after_version = query.get("key-marker") or "", query.get("version-id-marker")
    if after_version is not None and not after_key:
        raise _invalid("version-id-marker", after_version, "cannot be given without key-marker")
    if after_version == "":
        raise _invalid("version-id-marker", after_version, "cannot be empty")
    return VersionsParams(
        query.get("prefix") or "",
        query.get("delimiter") or "",
        after_key,
        after_version or "",
        _limit(query, "max-keys", LIST_PAGE_MAX),
        _url_encoding(query),
    )


def buckets_params(query: Query) -> BucketsParams:
    token = query.get("continuation-token") or ""
    limit = _limit(query, "max-buckets", BUCKETS_PAGE_MAX)
    if limit < 1:
        raise _invalid("max-buckets", "0", "must be at least 1")
    after = decode_token(token) if token else ""
    return BucketsParams(query.get("prefix") or "", after, limit, token, query.get("bucket-region") or "")


def buckets_page(params: BucketsParams, buckets: list[BucketInfo]) -> tuple[list[BucketInfo], str]:
    """(the page, continuation token or "") of all buckets, sorted by name."""
    found = [each for each in buckets if each.name > params.after and each.name.startswith(params.prefix)]
    page = found[: params.limit]
    return page, encode_token(page[-1].name) if len(found) > len(page) else ""


def part_number(query: Query) -> int:
    """?partNumber= of UploadPart. S3Error InvalidArgument."""
    text = query.get("partNumber") or ""
    number = _parse_integer(text)
    if number is None or not 1 <= number <= PARTS_MAX:
        raise _invalid("partNumber", text, f"must be an integer between 1 and {PARTS_MAX}")
    return number


def encode_token(after: str) -> str:
    return _TOKEN_VERSION + base64.urlsafe_b64encode(after.encode()).decode("ascii").rstrip("=")


def decode_token(token: str) -> str:
    """S3Error InvalidArgument when it is not one of ours."""
    try:
        if not token.startswith(_TOKEN_VERSION):
            raise ValueError
        raw = token[len(_TOKEN_VERSION) :].encode("ascii")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise _invalid("continuation-token", token, "is not one that this service has given") from error


def _limit(query: Query, name: str, maximum: int) -> int:
    return min(_integer(query, name, maximum, _INTEGER_MAX), maximum)


def _integer(query: Query, name: str, default: int, maximum: int) -> int:
    text = query.get(name)
    if not text:
        return default
    number = _parse_integer(text)
    if number is None or not 0 <= number <= maximum:
        raise _invalid(name, text, f"must be an integer between 0 and {maximum}")
    return number


def _parse_integer(text: str) -> int | None:
    """int() accepts spaces, underscores and the digits of every script; this does not."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def _url_encoding(query: Query) -> bool:
    value = query.get("encoding-type")
    if value not in (None, "", "url"):
        raise _invalid("encoding-type", value or "", "must be url")
    return value == "url"


def _invalid(name: str, value: str, rule: str) -> S3Error:
    extra = {"ArgumentName": name, "ArgumentValue": value}
    return S3Error("InvalidArgument", f"The argument {name} {rule}; it is {value!r}.", extra=extra)

"""Headers stored with an object: which are kept, and how they are shown again.

Not here: ETag, dates and lengths, which follow from the object. Stored names are lower case. A value is kept as the
text it was in UTF-8, or failing that in Latin-1, because that is how old clients send other than ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.s3.errors import S3Error
from gateway.s3.target import Query
from objstore.model.limits import USER_METADATA_BYTES_MAX

KEPT = ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires")
USER_PREFIX = "x-amz-meta-"
CHECKSUM_PREFIX = "x-amz-checksum-"
DEFAULT_TYPE = "binary/octet-stream"

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What PutObject, CreateMultipartUpload and CopyObject keep of a request. S3Error MetadataTooLarge."""
    kept = {name: _text(headers[name]) for name in KEPT if name in headers}
    kept.setdefault("content-type", DEFAULT_TYPE)
    codings = content_codings(headers)
    of_object = [coding for coding in codings if coding != "aws-chunked"]
    if not of_object:
        kept.pop("content-encoding", None)
    elif len(of_object) < len(codings):
        kept["content-encoding"] = _text(",".join(of_object))
    user = {name: _text(value) for name, value in headers.items() if name.startswith(USER_PREFIX)}
    size = sum(len(name) - len(USER_PREFIX) + len(value.encode()) for name, value in user.items())
    if size > USER_METADATA_BYTES_MAX:
        message = f"User metadata has {size} bytes, at most {USER_METADATA_BYTES_MAX} are allowed."
        extra = {"Size": str(size), "MaxSizeAllowed": str(USER_METADATA_BYTES_MAX)}
        raise S3Error("MetadataTooLarge", message, extra=extra)
    return kept | user


def copied_headers(request: Mapping[str, str], source: Mapping[str, str]) -> dict[str, str]:
    """For CopyObject: those of the source, or with x-amz-metadata-directive: REPLACE of the request. No checksums."""
    directive = request.get("x-amz-metadata-directive", "COPY").upper()
    if directive == "REPLACE":
        return stored_headers(request)
    if directive != "COPY":
        raise S3Error(
            "InvalidArgument",
            f"x-amz-metadata-directive must be COPY or REPLACE, not {directive}.",
            extra={"ArgumentName": "x-amz-metadata-directive", "ArgumentValue": directive},
        )
    return {name: value for name, value in source.items() if name in KEPT or name.startswith(USER_PREFIX)}


def overrides(query: Query) -> bool:
    """Whether a read asks for other headers than those that are stored."""
    return any("response-" + name in query for name in KEPT)


def shown_headers(stored: Mapping[str, str], request: Mapping[str, str], query: Query) -> dict[str, str]:
    """Response headers of GET and HEAD: checksums only with x-amz-checksum-mode: ENABLED; response-* overrides."""
    shown = {name: value for name, value in stored.items() if name in KEPT or name.startswith(USER_PREFIX)}
    if request.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        shown |= checksum_headers(stored)
    for name in KEPT if query.pairs else ():
        override = query.get("response-" + name)
        if override is not None:
            if _CONTROL.search(override):
                raise S3Error("InvalidArgument", f"response-{name} has a control character.")
            shown[name] = override
    return shown


def checksum_headers(stored: Mapping[str, str]) -> dict[str, str]:
    """The x-amz-checksum-* headers of an object, its type included; not the algorithm of an upload."""
    wanted = {name: value for name, value in stored.items() if name.startswith(CHECKSUM_PREFIX)}
    wanted.pop(CHECKSUM_PREFIX + "algorithm", None)
    return wanted if len(wanted) > 1 else {}


def content_codings(headers: Mapping[str, str]) -> list[str]:
    """The codings of Content-Encoding, in order."""
    return [coding.strip() for coding in headers.get("content-encoding", "").split(",") if coding.strip()]


def _text(value: str) -> str:
    """Undoes the surrogateescape of `collect_headers`."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value

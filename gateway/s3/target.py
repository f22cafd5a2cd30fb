"""The request line and the header list, decoded once: path, bucket, key, query, headers.

Decoding is exact. In the path a `+` is a `+`, and `//`, `.` and `..` are parts of the key. In the query a `+` is a
space, as HTML forms write it. What is not UTF-8 after decoding is refused, never repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from gateway.s3.errors import S3Error

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_UNRESERVED_OR_SLASH = re.compile(r"[A-Za-z0-9._~/-]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # token, RFC 9110 section 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MEMO = lru_cache(maxsize=1024)  # of the same few words that signatures bring with each request
_quote, _unquote_to_bytes = _MEMO(quote), _MEMO(unquote_to_bytes)
_MEMO_CHARS_MAX = 256
_AUTH_PARAMETERS = frozenset(
    ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature")
)


class Query:
    """Decoded query parameters in order. A parameter without '=' has the value ""."""

    __slots__ = ("_first", "pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)
        self._first = dict(reversed(self.pairs))

    @classmethod
    def parse(cls, raw: str) -> Query:
        """The part of the request target after '?'. S3Error InvalidURI."""
        pairs = []
        for field in raw.split("&"):
            if field:
                name, _, value = field.replace("+", " ").partition("=")
                pairs.append((percent_decode(name), percent_decode(value)))
        return cls(pairs)

    def get(self, name: str) -> str | None:
        """The first value, or None when absent."""
        return self._first.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._first

    def __repr__(self) -> str:
        return f"Query({self.pairs!r})"


class Target(NamedTuple):
    path: str  # undecoded, as signed
    query: Query
    bucket: str | None  # decoded; None: the service itself
    key: str | None  # decoded; None: the bucket itself; never ""
    virtual_host: bool = False


def percent_decode(text: str) -> str:
    """S3Error InvalidURI when an escape is broken or the result is not UTF-8."""
    if "%" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise S3Error("InvalidURI", "The request target has a % that two hexadecimal digits do not follow.")
    try:
        unquote = _unquote_to_bytes if len(text) <= _MEMO_CHARS_MAX else unquote_to_bytes
        return unquote(text.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError as error:
        raise S3Error("InvalidURI", "The request target is not valid UTF-8 after decoding.") from error


def percent_encode(text: str, *, keep: str = "") -> str:
    """UriEncode of AWS: everything but A-Z a-z 0-9 - . _ ~ and the characters of `keep`."""
    plain = _UNRESERVED_OR_SLASH if keep == "/" else _UNRESERVED
    if plain.fullmatch(text):
        return text
    return _quote(text, safe=keep) if len(text) <= _MEMO_CHARS_MAX else quote(text, safe=keep)


def parse_target(target: str, host: str, domain: str | None) -> Target:
    """`target` undecoded, as in the request line; `host` the Host header. S3Error InvalidURI.

    Virtual-host style when the host is a name below `domain`, else path style.
    """
    if not target.startswith("/"):
        scheme, found, rest = target.partition("://")  # absolute form, RFC 9112 section 3.2.2
        if not found or scheme.lower() not in ("http", "https"):
            raise S3Error("InvalidURI", "The request target must begin with '/'.")
        authority = re.match(r"[^/?]*", rest)
        host = authority[0] if authority else ""
        target = "/" + rest[len(host) :].removeprefix("/")
    path, _, raw_query = target.partition("?")
    query = Query.parse(raw_query)
    if bucket := _bucket_of_host(host, domain):
        return Target(path, query, bucket, percent_decode(path[1:]) or None, virtual_host=True)
    raw_bucket, slash, raw_key = path[1:].partition("/")
    if not raw_bucket and not slash:
        return Target(path, query, None, None)
    return Target(path, query, percent_decode(raw_bucket), percent_decode(raw_key) or None)


def _bucket_of_host(host: str, domain: str | None) -> str | None:
    if not domain:
        return None
    name = _without_port(host.lower())
    suffix = "." + _without_port(domain.lower().strip("."))
    return name.removesuffix(suffix) if name.endswith(suffix) else None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def collect_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; repeated headers joined by ","; bytes kept (UTF-8 with surrogateescape)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("ascii", "replace").lower()
        value = raw_value.strip().decode("utf-8", "surrogateescape")  # as bytes: U+00A0 is no space of HTTP
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def effective_headers(headers: Mapping[str, str], query: Query) -> dict[str, str]:
    """The headers plus those that a presigned URL carries as parameters (x-amz-acl=..., x-amz-meta-...).

    Everything but `sigv4.verify` works with these. A header that really came wins. Checksums are left out:
    SDKs put the checksum of an empty body into a presigned PUT, where it can only be wrong.

    S3Error InvalidArgument for a parameter that no header could be: unlike one it can hold a line end, and stored as
    metadata that would make every later response of the object unsendable.
    """
    result = dict(headers)
    for name, value in query.pairs:
        lower = name.lower()
        if lower.startswith("x-amz-") and lower not in _AUTH_PARAMETERS and not _is_checksum(lower):
            if not _HEADER_NAME.fullmatch(lower) or _CONTROL.search(value):
                text = f"The parameter {name!r} cannot be a header: it has forbidden characters."
                raise S3Error("InvalidArgument", text)
            result.setdefault(lower, value)
    return result


def _is_checksum(name: str) -> bool:
    return name == "x-amz-sdk-checksum-algorithm" or name.startswith("x-amz-checksum-")

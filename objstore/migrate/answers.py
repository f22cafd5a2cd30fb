"""What another S3 service answers, as the values that are kept here. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from objstore.model.errors import OriginUnavailable

_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires")
_CHECKSUM = "x-amz-checksum-"
_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_OF_PARTS = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})", re.ASCII)


class Found(NamedTuple):
    """An object of the origin."""

    size: int
    etag: str
    modified_ms: int
    headers: dict[str, str]  # to be kept
    tagged: bool
    md5: str  # of its bytes, if the ETag is that; else ""

    @property
    def part_count(self) -> int:
        """As the ETag says; 0: it was uploaded in one piece."""
        found = _OF_PARTS.fullmatch(self.etag)
        return int(found[1]) if found else 0


class Entry(NamedTuple):
    key: str
    size: int
    etag: str
    modified_ms: int


class Page(NamedTuple):
    entries: list[Entry]
    truncated: bool


def found_of(headers: Mapping[str, str]) -> Found:
    """Of the answer to a HEAD; names in lower case. OriginUnavailable when it is none."""
    try:
        size = int(headers["content-length"])
        modified = parsedate_to_datetime(headers["last-modified"])
        etag = headers["etag"].strip().removeprefix("W/").strip('"')
    except (KeyError, ValueError) as error:
        raise OriginUnavailable("the origin describes an object without ETag, Last-Modified or length") from error
    kept = {name: _text(value) for name, value in headers.items() if name in _KEPT or name.startswith("x-amz-meta-")}
    checksums = {name: value for name, value in headers.items() if name.startswith(_CHECKSUM)}
    if checksums.get(_CHECKSUM + "type", "COMPOSITE" if _OF_PARTS.fullmatch(etag) else "FULL_OBJECT") != "FULL_OBJECT":
        checksums = {}  # it is made of checksums of parts, which nobody tells
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    md5 = etag if _MD5.fullmatch(etag) and not encrypted else ""
    tagged = headers.get("x-amz-tagging-count", "0") != "0"
    return Found(size, etag, _ms(modified), {**kept, **checksums}, tagged, md5)


def page_of(document: bytes) -> Page:
    """Of a ListObjectsV2 with encoding-type=url. OriginUnavailable when it is none."""
    root = _parsed(document, "ListBucketResult")
    entries = []
    for one in _children(root, "Contents"):
        try:
            modified = datetime.fromisoformat(_text_of(one, "LastModified").replace("Z", "+00:00"))
            key = _text_of(one, "Key")
            key = unquote_plus(key, errors="strict") if _text_of(root, "EncodingType") == "url" else key
            etag = _text_of(one, "ETag").strip('"')
            entries.append(Entry(key, int(_text_of(one, "Size")), etag, _ms(modified)))
        except ValueError as error:
            raise OriginUnavailable(f"the origin lists an object that cannot be understood: {error}") from error
    return Page(entries, _text_of(root, "IsTruncated") == "true")


def tags_of(document: bytes) -> dict[str, str]:
    root = _parsed(document, "Tagging")
    return {_text_of(tag, "Key"): _text_of(tag, "Value") for tag in root.iter() if _name(tag) == "Tag"}


def error_of(document: bytes) -> str:
    """ "Code: Message" of an error document, else ""."""
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError:
        return ""
    return f"{_text_of(root, 'Code')}: {_text_of(root, 'Message')}" if _name(root) == "Error" else ""


def _parsed(document: bytes, name: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as error:
        raise OriginUnavailable(f"the origin answers with something that is no XML: {error}") from error
    if _name(root) != name:
        raise OriginUnavailable(f"the origin answers with {_name(root)} where {name} was asked for")
    return root


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in element if _name(one) == name]


def _text_of(element: ElementTree.Element, name: str) -> str:
    found = _children(element, name)
    return (found[0].text or "") if found else ""


def _ms(moment: datetime) -> int:
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _text(value: str) -> str:
    """Headers other than ASCII are UTF-8, or else Latin-1."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value

"""Tags: in the header x-amz-tagging, in Tagging documents, and the rules of both."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from gateway.s3.target import Query

OBJECT_TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
KEY_MAX = 128  # characters
VALUE_MAX = 256

_SYMBOLS = frozenset("_.:/=+-@")


def from_header(headers: Mapping[str, str]) -> dict[str, str]:
    """Of x-amz-tagging, which is written like a query; {} without one."""
    value = headers.get("x-amz-tagging", "")
    try:
        pairs = Query.parse(value).pairs
    except S3Error:
        raise _malformed_header(value) from None
    if len({key for key, _ in pairs}) < len(pairs) or any(pair.count("=") > 1 for pair in value.split("&")):
        raise _malformed_header(value)
    return checked(pairs, OBJECT_TAGS_MAX)


def _malformed_header(value: str) -> S3Error:
    text = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name "
    return S3Error("InvalidArgument", text + "duplicates.", extra=_argument(value))


def of_copy(request: Mapping[str, str], source: Mapping[str, str]) -> dict[str, str]:
    """For CopyObject: those of the source, or with x-amz-tagging-directive: REPLACE those of the request."""
    directive = request.get("x-amz-tagging-directive", "COPY").upper()
    if directive == "REPLACE":
        return from_header(request)
    if directive != "COPY":
        raise S3Error(
            "InvalidArgument",
            "Unknown tagging directive.",
            extra={"ArgumentName": "x-amz-tagging-directive", "ArgumentValue": directive},
        )
    if "x-amz-tagging" in request:
        raise S3Error("InvalidRequest", "x-amz-tagging of a copy needs x-amz-tagging-directive: REPLACE.")
    return dict(source)


def parse(body: bytes, count_max: int) -> dict[str, str]:
    """Of a Tagging document."""
    root = documents.read(body, "Tagging", "TagSet")
    tag_set = documents.child(root, "TagSet")
    if tag_set is None:
        raise documents.malformed("Tagging has no TagSet")
    return of_nodes(tag_set, count_max)


def of_nodes(tag_set: xml.Node, count_max: int) -> dict[str, str]:
    """Of the Tag elements of a node."""
    documents.only(tag_set, "Tag")
    pairs: list[tuple[str, str]] = []
    for tag in tag_set.all("Tag"):
        documents.only(tag, "Key", "Value")
        keys, values = tag.all("Key"), tag.all("Value")
        if len(keys) != 1 or len(values) != 1:
            raise documents.malformed("a Tag has one Key and one Value")
        pairs.append((keys[0].text, values[0].text))
    return checked(pairs, count_max)


def checked(pairs: Iterable[tuple[str, str]], count_max: int) -> dict[str, str]:
    """S3Error InvalidTag, BadRequest (too many)."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key in tags:
            raise _invalid("Cannot provide multiple Tags with the same key", TagKey=key)
        if not 1 <= len(key) <= KEY_MAX or not _allowed(key):
            raise _invalid("The TagKey you have provided is invalid", TagKey=key)
        if key.startswith("aws:"):
            of_bucket = "System tags cannot be added/updated by requester"
            raise _invalid(
                of_bucket if count_max == BUCKET_TAGS_MAX else "Your TagKey cannot be prefixed with aws:", TagKey=key
            )
        if len(value) > VALUE_MAX or not _allowed(value):
            raise _invalid("The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        tags[key] = value
    if len(tags) > count_max:
        kind = "Object" if count_max == OBJECT_TAGS_MAX else "Bucket"
        raise S3Error("BadRequest", f"{kind} tags cannot be greater than {count_max}")
    return tags


def _allowed(text: str) -> bool:
    """Letters, digits and spaces of all scripts, and some symbols."""
    return all(char in _SYMBOLS or unicodedata.category(char)[0] in "LNZ" for char in text)


def _invalid(text: str, **extra: str) -> S3Error:
    return S3Error("InvalidTag", text, extra=extra)


def _argument(value: str) -> dict[str, str]:
    return {"ArgumentName": "x-amz-tagging", "ArgumentValue": value}


def document(tags: Mapping[str, str]) -> bytes:
    content = "".join(
        f"<Tag>{xml.element('Key', key)}{xml.element('Value', value)}</Tag>" for key, value in tags.items()
    )
    return xml.document("Tagging", f"<TagSet>{content}</TagSet>")


def count_header(tags: Mapping[str, str]) -> dict[str, str]:
    """Of GET and HEAD."""
    return {"x-amz-tagging-count": str(len(tags))} if tags else {}

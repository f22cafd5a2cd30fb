"""GetObjectAttributes: which attributes a request names, and the document that answers it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.s3 import checksums, xml
from gateway.s3.errors import S3Error
from objstore.engine.types import ObjectInfo
from objstore.model.limits import LIST_PAGE_MAX

NAMES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


class Wanted(NamedTuple):
    names: frozenset[str]
    after: int  # part number
    limit: int  # parts


def wanted(headers: Mapping[str, str]) -> Wanted:
    """S3Error InvalidRequest (none named), InvalidArgument."""
    value = headers.get("x-amz-object-attributes", "")
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    if not names:
        text = "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty"
        raise S3Error("InvalidRequest", text)
    if not names <= frozenset(NAMES):
        raise _bad("x-amz-object-attributes", value, "Invalid attribute name specified.")
    return Wanted(names, _number(headers, "x-amz-part-number-marker", 0), _limit(headers))


def _limit(headers: Mapping[str, str]) -> int:
    return min(_number(headers, "x-amz-max-parts", LIST_PAGE_MAX), LIST_PAGE_MAX)


def _number(headers: Mapping[str, str], name: str, default: int) -> int:
    value = headers.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise _bad(name, value, f"{name} must be an integer that is not negative.")
    return int(value)


def _bad(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, extra={"ArgumentName": name, "ArgumentValue": value})


def document(info: ObjectInfo, wanted: Wanted) -> bytes:
    algorithm = _algorithm(info)
    content = ""
    if "ETag" in wanted.names:
        content += xml.element("ETag", info.etag)
    if "Checksum" in wanted.names and algorithm is not None:
        content += f"<Checksum>{_checksum(info, algorithm)}</Checksum>"
    if "ObjectParts" in wanted.names and info.parts:
        content += f"<ObjectParts>{_parts(info, wanted, algorithm)}</ObjectParts>"
    if "StorageClass" in wanted.names:
        content += xml.element("StorageClass", "STANDARD")
    if "ObjectSize" in wanted.names:
        content += xml.element("ObjectSize", info.size)
    return xml.document("GetObjectAttributesResponse", content)


def _checksum(info: ObjectInfo, algorithm: str) -> str:
    """Without the count of parts that a composite one has at its end in headers."""
    value = info.headers[checksums.header_name(algorithm)].partition("-")[0]
    kind = info.headers.get(checksums.TYPE_HEADER)
    text = xml.element("Checksum" + algorithm.upper(), value)
    return text + (xml.element("ChecksumType", kind) if kind else "")


def _parts(info: ObjectInfo, wanted: Wanted, algorithm: str | None) -> str:
    numbers = range(wanted.after + 1, min(wanted.after + wanted.limit, len(info.parts)) + 1)
    last = numbers[-1] if numbers else wanted.after
    text = xml.element("PartsCount", len(info.parts))
    text += xml.element("PartNumberMarker", wanted.after) + xml.element("NextPartNumberMarker", last)
    truncated = bool(wanted.limit) and last < len(info.parts)  # a page of none would come again and again
    text += xml.element("MaxParts", wanted.limit) + xml.element("IsTruncated", truncated)
    for number in numbers:
        checksum = part_checksum(info, number, algorithm)
        text += "<Part>" + xml.element("PartNumber", number) + xml.element("Size", info.parts[number - 1])
        text += (xml.element("Checksum" + algorithm.upper(), checksum) if algorithm and checksum else "") + "</Part>"
    return text


def part_digests(whole: Mapping[str, str], parts: Sequence[Mapping[str, str]]) -> bytes:
    """What an object keeps of the checksums of its parts. `whole`, `parts`: headers of the object and of each part."""
    name = next((name for name in map(checksums.header_name, checksums.ALGORITHMS) if name in whole), None)
    return b"".join(base64.b64decode(part[name]) for part in parts) if name is not None else b""


def part_headers(info: ObjectInfo, number: int) -> dict[str, str]:
    """The checksum of one part of a composite one, for a GET or HEAD of that part."""
    if info.headers.get(checksums.TYPE_HEADER) != checksums.COMPOSITE:
        return {}
    algorithm = _algorithm(info)
    value = part_checksum(info, number, algorithm)
    return {checksums.header_name(algorithm or ""): value, checksums.TYPE_HEADER: checksums.COMPOSITE} if value else {}


def _algorithm(info: ObjectInfo) -> str | None:
    return next((each for each in checksums.ALGORITHMS if checksums.header_name(each) in info.headers), None)


def part_checksum(info: ObjectInfo, number: int, algorithm: str | None) -> str:
    """Of a part of a multipart object; "" if it is not known."""
    if algorithm is None or not info.part_checksums:
        return ""
    width = checksums.DIGEST_BYTES[algorithm]
    return checksums.encode(info.part_checksums[(number - 1) * width : number * width])

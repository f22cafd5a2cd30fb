"""Byte ranges of GET, HEAD and UploadPartCopy.

S3 serves one range. A Range header that it cannot read, or that names several, counts as absent (RFC 9110
section 14.2 allows it); one that it can read and that lies outside the object is 416.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.s3.errors import S3Error

_RANGE = re.compile(r"bytes\s*=\s*(?:([0-9]{1,999})\s*-\s*([0-9]{0,999})|-\s*([0-9]{1,999}))", re.ASCII | re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


class Slice(NamedTuple):
    """`length` > 0 bytes from `offset`, except for part 1 of an empty object."""

    offset: int
    length: int
    size: int  # of the whole object

    @property
    def content_range(self) -> str:
        """For the header Content-Range: bytes 0-9/100."""
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> Slice | None:
    """None: the whole object. S3Error InvalidRange (416) when no byte of the range exists."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if not found:
        return None
    if found[3] is not None:
        length = min(int(found[3]), size)
        offset = size - length
    else:
        offset = int(found[1])
        last = int(found[2]) if found[2] else size - 1
        if found[2] and last < offset:
            return None
        length = min(last, size - 1) - offset + 1
    if length <= 0:
        raise _unsatisfiable(header or "", size)
    return Slice(offset, length, size)


def _unsatisfiable(asked: str, size: int) -> S3Error:
    extra = {"RangeRequested": asked, "ActualObjectSize": str(size)}
    message = f"The range {asked} lies outside the object, which has {size} bytes."
    return S3Error("InvalidRange", message, extra=extra, headers={"Content-Range": f"bytes */{size}"})


def parse_copy_range(header: str | None, size: int) -> Slice:
    """x-amz-copy-source-range of UploadPartCopy: unlike Range it must be exact and lie inside the source."""
    if header is None:
        return Slice(0, size, size)
    found = _COPY_RANGE.fullmatch(header.strip())
    if not found or int(found[1]) > int(found[2]):
        raise S3Error(
            "InvalidArgument",
            f"x-amz-copy-source-range must be of the form bytes=first-last, not {header}.",
            extra={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header},
        )
    first, last = int(found[1]), int(found[2])
    if last >= size:
        raise S3Error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            extra={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header},
        )
    return Slice(first, last - first + 1, size)


def part_slice(part_number: str, size: int, parts: tuple[int, ...]) -> Slice:
    """?partNumber=N of GET and HEAD. An object that was not uploaded in parts has one part."""
    if not (
        part_number.isascii() and part_number.isdigit() and len(part_number) <= 5 and 1 <= int(part_number) <= 10_000
    ):
        raise S3Error("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
    number = int(part_number)
    sizes = parts or (size,)
    if number > len(sizes):
        extra = {"PartNumberRequested": part_number, "ActualPartCount": str(len(sizes))}
        raise S3Error("InvalidPartNumber", f"The object has {len(sizes)} parts, not {number}.", extra=extra)
    return Slice(sum(sizes[: number - 1]), sizes[number - 1], size)

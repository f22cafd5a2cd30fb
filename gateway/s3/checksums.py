"""Object checksums: CRC32, CRC32C, CRC64NVME, SHA1, SHA256. Values are base64 of the big-endian digest, as S3 shows.

The CRCs of C libraries: `zlib` for CRC32 and `awscrt` for CRC32C and CRC64NVME, because Python has neither and in
Python either would be a thousand times slower than the network. `awscrt` can also combine the CRCs of parts into
the CRC of the whole, which FULL_OBJECT checksums of multipart uploads need.

Not here: when to verify (`payload`). Invariant: a value that a client declared is either verified or refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from awscrt import checksums as crt

from gateway.s3.errors import S3Error

Buffer = bytes | bytearray | memoryview

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
DIGEST_BYTES: Mapping[str, int] = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32}
TYPE_HEADER = "x-amz-checksum-type"
ALGORITHM_HEADER = "x-amz-checksum-algorithm"
FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"
SINGLE = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."


class Hasher(ABC):
    """Fed in order; `digest` and `value` may be asked at any time."""

    @abstractmethod
    def update(self, data: Buffer) -> None: ...

    @abstractmethod
    def digest(self) -> bytes: ...

    def value(self) -> str:
        """As in x-amz-checksum-*."""
        return encode(self.digest())


class _Crc(Hasher):
    def __init__(self, step: Callable[[Buffer, int], int], width: int) -> None:
        self._step = step
        self._width = width
        self._value = 0

    def update(self, data: Buffer) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _Sha(Hasher):
    def __init__(self, name: str) -> None:
        self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, data: Buffer) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return self._hash.digest()


_NEW: Mapping[str, Callable[[], Hasher]] = {
    "crc32": lambda: _Crc(zlib.crc32, 4),
    "crc32c": lambda: _Crc(crt.crc32c, 4),
    "crc64nvme": lambda: _Crc(crt.crc64nvme, 8),
    "sha1": lambda: _Sha("sha1"),
    "sha256": lambda: _Sha("sha256"),
}
_COMBINE: Mapping[str, Callable[[int, int, int], int]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}


def hasher(algorithm: str) -> Hasher:
    return _NEW[algorithm]()


def header_name(algorithm: str) -> str:
    """crc32 -> x-amz-checksum-crc32."""
    return "x-amz-checksum-" + algorithm


def encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def decode(algorithm: str, value: str) -> bytes:
    """The digest of a base64 value. S3Error InvalidRequest when it is not one of that algorithm."""
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != DIGEST_BYTES[algorithm] or encode(digest) != value:
        raise S3Error("InvalidRequest", f"Value for {header_name(algorithm)} header is invalid.")
    return digest


def declared(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """(algorithm, value) of the one x-amz-checksum-* header, or None. S3Error InvalidRequest when there are several."""
    found = [(name, headers[header_name(name)]) for name in ALGORITHMS if header_name(name) in headers]
    if len(found) > 1:
        raise S3Error("InvalidRequest", SINGLE)
    return found[0] if found else None


def algorithm_named(header: str, value: str) -> str:
    """The algorithm that a header names (CRC32, in any case). S3Error InvalidRequest."""
    algorithm = value.strip().lower()
    if algorithm not in ALGORITHMS:
        names = ", ".join(name.upper() for name in ALGORITHMS)
        raise S3Error("InvalidRequest", f"The value {value} of {header} is not supported; supported are {names}.")
    return algorithm


def mismatch(algorithm: str) -> S3Error:
    return S3Error("BadDigest", f"The {algorithm.upper()} you specified did not match the calculated checksum.")


def requested_multipart(headers: Mapping[str, str]) -> dict[str, str]:
    """Of CreateMultipartUpload: what to keep in the upload's headers, and to answer; {} when it names no algorithm.

    {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "COMPOSITE"}
    """
    name, kind = headers.get(ALGORITHM_HEADER), headers.get(TYPE_HEADER)
    if name is None:
        if kind is not None:
            raise S3Error("InvalidRequest", f"{TYPE_HEADER} needs {ALGORITHM_HEADER} beside it.")
        return {}
    algorithm = algorithm_named(ALGORITHM_HEADER, name)
    kind = (kind or _default_type(algorithm)).upper()
    possible = (FULL_OBJECT,) if algorithm == "crc64nvme" else (FULL_OBJECT, COMPOSITE)
    if kind not in possible or (kind == FULL_OBJECT and algorithm not in _COMBINE):
        raise S3Error("InvalidRequest", f"The {kind} checksum type cannot be used with {algorithm.upper()}.")
    return {ALGORITHM_HEADER: algorithm.upper(), TYPE_HEADER: kind}


def _default_type(algorithm: str) -> str:
    return FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE


def check_algorithm(upload_headers: Mapping[str, str], algorithm: str | None) -> None:
    """A part that comes with a checksum comes with that of its upload. S3Error InvalidRequest.

    Without any it may: what is computed then is looked at when the upload is completed (`check_part`)."""
    wanted = upload_headers.get(ALGORITHM_HEADER, "").lower()
    if wanted and algorithm not in (None, wanted):
        text = f"Checksum Type mismatch occurred, expected checksum Type: {wanted}, actual checksum Type: {algorithm}"
        raise S3Error("InvalidRequest", text)


def check_part(upload_headers: Mapping[str, str], number: int, headers: Mapping[str, str]) -> None:
    """A part must have a checksum of the kind that its upload was created with. S3Error InvalidRequest."""
    name = upload_headers.get(ALGORITHM_HEADER)
    if name is not None and header_name(name.lower()) not in headers:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created with the checksum algorithm {name}, and part {number} was uploaded without one of "
            "that kind. Upload the part again.",
        )


def combined(upload_headers: Mapping[str, str], parts: Sequence[tuple[Mapping[str, str], int]]) -> dict[str, str]:
    """Of CompleteMultipartUpload: the checksum headers of the object.

    `upload_headers`: of the upload (see `requested_multipart`); `parts`: headers and size of each, in order.
    {} when not every part has a checksum of the algorithm.
    """
    name = upload_headers.get(ALGORITHM_HEADER)
    algorithm = name.lower() if name else "crc64nvme"
    values = [headers.get(header_name(algorithm)) for headers, _ in parts]
    present = [base64.b64decode(value) for value in values if value is not None]
    if not present or len(present) != len(parts):
        return {}
    kind = upload_headers.get(TYPE_HEADER) or _default_type(algorithm)
    if kind == COMPOSITE:
        whole = hasher(algorithm)
        whole.update(b"".join(present))
        return {header_name(algorithm): f"{whole.value()}-{len(parts)}", TYPE_HEADER: COMPOSITE}
    total = 0
    for digest, (_, size) in zip(present, parts, strict=True):
        total = _COMBINE[algorithm](total, int.from_bytes(digest, "big"), size)
    return {header_name(algorithm): encode(total.to_bytes(DIGEST_BYTES[algorithm], "big")), TYPE_HEADER: FULL_OBJECT}


def appended(stored: Mapping[str, str], algorithm: str | None, added: Mapping[str, str], size: int) -> dict[str, str]:
    """The checksum headers of an object with `size` bytes more. `stored`: headers of the object, whose checksum is of
    `algorithm` (see `to_continue`); `added`: those of the bytes that come. S3Error InvalidRequest."""
    if algorithm is None:
        return {}
    name = header_name(algorithm)
    if name not in added:
        found = next((each for each in ALGORITHMS if header_name(each) in added), "none")
        text = f"Checksum Type mismatch occurred, expected checksum Type: {algorithm}, actual checksum Type: {found}"
        raise S3Error("InvalidRequest", text)
    before, behind = (int.from_bytes(base64.b64decode(headers[name]), "big") for headers in (stored, added))
    whole = _COMBINE[algorithm](before, behind, size)
    return {name: encode(whole.to_bytes(DIGEST_BYTES[algorithm], "big")), TYPE_HEADER: FULL_OBJECT}


def to_continue(stored: Mapping[str, str]) -> str | None:
    """The algorithm of the checksum of an object that is appended to; None: it has none. S3Error InvalidRequest when
    that of the whole cannot be computed from it."""
    algorithm = next((each for each in ALGORITHMS if header_name(each) in stored), None)
    kind = stored.get(TYPE_HEADER, FULL_OBJECT)
    if algorithm is not None and (algorithm not in _COMBINE or kind != FULL_OBJECT):
        text = f"The object has a {kind} {algorithm.upper()} checksum, which cannot be continued. Copy it with another."
        raise S3Error("InvalidRequest", text)
    return algorithm


def check_complete(upload: Mapping[str, str], headers: Mapping[str, str], computed: Mapping[str, str]) -> None:
    """A checksum of the whole object sent with CompleteMultipartUpload must be the computed one. S3Error BadDigest.

    `upload`: its headers. Where it named no algorithm, one that was not computed says nothing, as in AWS: some clients
    send there that of the document."""
    kind = headers.get(TYPE_HEADER)
    if kind is not None and kind.upper() != computed.get(TYPE_HEADER):
        raise S3Error(
            "InvalidRequest", f"The upload has the checksum type {computed.get(TYPE_HEADER, 'none')}, not {kind}."
        )
    given = declared(headers)
    if given is None:
        return
    algorithm, value = given
    expected = computed.get(header_name(algorithm))
    if expected is None and ALGORITHM_HEADER not in upload:
        return
    if expected is None:
        raise S3Error("InvalidRequest", f"The parts do not all have a {algorithm.upper()} checksum to compare with.")
    if value not in (expected, expected.partition("-")[0]):
        raise mismatch(algorithm)

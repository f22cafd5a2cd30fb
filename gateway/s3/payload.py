"""The body of an upload: its length, its framing, and everything it must match, as one push pipeline.

Use: `payload = Payload(headers, auth)`; for every buffer of the network take what `payload.feed(buffer)` returns;
after the last one, and before anything is committed, `payload.finish()`. What a client says of a body in several
places must agree before a byte is read; what it says of the content is verified, or refused, never ignored. So the
framing of aws-chunked can not end up inside an object.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping

from gateway.s3 import checksums
from gateway.s3.checksums import Buffer
from gateway.s3.chunked import ChunkDecoder
from gateway.s3.errors import S3Error
from gateway.s3.metadata import content_codings
from gateway.s3.sigv4 import Auth, PayloadMode
from objstore.model.limits import PUT_SIZE_MAX, XML_BODY_BYTES_MAX

_SDK_ALGORITHM = "x-amz-sdk-checksum-algorithm"
_SENT = "x-amz-checksum-* or x-amz-trailer"


class Payload:
    """length: bytes of the object (decoded). content_md5: raw 16 bytes for the engine to verify, or None.

    S3Error from the constructor: MissingContentLength, EntityTooLarge, InvalidDigest, InvalidRequest; from feed and
    finish: IncompleteBody, SignatureDoesNotMatch, MalformedTrailerError, BadDigest, XAmzContentSHA256Mismatch.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        auth: Auth,
        *,
        size_max: int = PUT_SIZE_MAX,
        default_algorithm: str | None = None,
        verify_md5: bool = False,
    ) -> None:
        """default_algorithm: computed and stored when the client names no checksum, for example "crc64nvme".

        verify_md5: check Content-MD5 here and set content_md5 to None, for bodies that the engine does not see.
        """
        self.length = _length(headers, auth.mode)
        if self.length > size_max:
            message = f"The body has {self.length} bytes, at most {size_max} are allowed."
            extra = {"ProposedSize": str(self.length), "MaxSizeAllowed": str(size_max)}
            raise S3Error("EntityTooLarge", message, extra=extra)
        self.content_md5 = _content_md5(headers)
        trailers = _trailer_names(headers, auth.mode)
        self._decoder = ChunkDecoder(auth.mode, auth, self.length, trailers) if auth.mode.chunked else None
        self._received = 0
        self.algorithm, self._expected = _checksum_wanted(headers, trailers)
        algorithm = self.algorithm or default_algorithm
        self._stored_algorithm = algorithm
        self._checksum = checksums.hasher(algorithm) if algorithm else None
        self._sha256 = hashlib.sha256() if auth.mode is PayloadMode.HASHED else None
        self._sha256_expected = auth.payload_sha256
        self._md5_expected: bytes | None = None
        if verify_md5:
            self._md5_expected, self.content_md5 = self.content_md5, None
        self._md5 = hashlib.md5(usedforsecurity=False) if self._md5_expected else None
        hashers = (self._checksum, self._sha256, self._md5)
        self._updates: list[Callable[[Buffer], None]] = [each.update for each in hashers if each is not None]

    def feed(self, data: Buffer) -> list[memoryview]:
        """Object bytes contained in `data`, as views of it."""
        pieces = self._decoder.feed(data) if self._decoder else [memoryview(data)]
        for piece in pieces:
            self._received += len(piece)
            if self._received > self.length:
                raise self._wrong_length()
            for update in self._updates:
                update(piece)
        return pieces

    def finish(self) -> dict[str, str]:
        """Verifies all; the checksum headers to store with the object, to answer with, or {}.

        {"x-amz-checksum-crc32": "...", "x-amz-checksum-type": "FULL_OBJECT"}. Fits `finish=` of the engine.
        """
        if self._decoder:
            self._decoder.finish()
        if self._received != self.length:
            raise self._wrong_length()
        self.check_hash()
        if self._md5 is not None and self._md5.digest() != self._md5_expected:
            raise _wrong_md5(self._md5_expected or b"", self._md5.digest())
        return self._finish_checksum()

    @property
    def is_whole(self) -> bool:
        return self._received == self.length

    def check_hash(self) -> None:
        """Of a body that has ended: before its MD5 is looked at, as AWS does. S3Error XAmzContentSHA256Mismatch."""
        if self._sha256 is not None and (actual := self._sha256.hexdigest()) != self._sha256_expected.lower():
            extra = {"ClientComputedContentSHA256": self._sha256_expected, "S3ComputedContentSHA256": actual}
            raise S3Error("XAmzContentSHA256Mismatch", extra=extra)

    def _wrong_length(self) -> S3Error:
        extra = {"NumberBytesExpected": str(self.length), "NumberBytesProvided": str(self._received)}
        text = "You did not provide the number of bytes specified by the Content-Length HTTP header"
        return S3Error("IncompleteBody", text, extra=extra)

    def _finish_checksum(self) -> dict[str, str]:
        if self._checksum is None or self._stored_algorithm is None:
            return {}
        name = checksums.header_name(self._stored_algorithm)
        digest = self._checksum.digest()
        if self.algorithm is not None:
            expected = self._expected
            if expected is None:
                assert self._decoder is not None
                expected = checksums.decode(self.algorithm, self._decoder.trailers[name])
            if not hmac.compare_digest(digest, expected):
                raise checksums.mismatch(self.algorithm)
        return {name: checksums.encode(digest), checksums.TYPE_HEADER: checksums.FULL_OBJECT}


def _wrong_md5(expected: bytes, calculated: bytes) -> S3Error:
    """Of a document; of an object the engine finds it out."""
    shown = {"ExpectedDigest": expected, "CalculatedDigest": calculated}
    extra = {name: base64.b64encode(digest).decode() for name, digest in shown.items()}
    return S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.", extra=extra)


def read_small_body(headers: Mapping[str, str], auth: Auth) -> Payload:
    """For XML bodies: bounded, Content-MD5 is verified by `finish`, and no length at all means no body."""
    if not (auth.mode.chunked or "content-length" in headers or "transfer-encoding" in headers):
        headers = {**headers, "content-length": "0"}  # RFC 9112 section 6.3
    return Payload(headers, auth, size_max=XML_BODY_BYTES_MAX, verify_md5=True)


def _length(headers: Mapping[str, str], mode: PayloadMode) -> int:
    """Bytes of the object, without framing. Also refuses what contradicts the payload mode."""
    if mode.chunked:
        return _number(headers, "x-amz-decoded-content-length")
    if "x-amz-decoded-content-length" in headers:
        message = f"x-amz-decoded-content-length needs a STREAMING-... x-amz-content-sha256, which is {mode.value}."
        raise S3Error("InvalidRequest", message)
    if mode is not PayloadMode.HASHED and "aws-chunked" in content_codings(headers):
        # With a hash of the body there is no doubt: these bytes are the object, whatever was meant by the header.
        message = f"aws-chunked encoding is not supported when x-amz-content-sha256 {mode.value} is supplied."
        raise S3Error("InvalidArgument", message)
    return _number(headers, "content-length")


def _number(headers: Mapping[str, str], name: str) -> int:
    value = headers.get(name)
    if value is None:
        raise S3Error("MissingContentLength", extra={"Header": name})
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise S3Error("MissingContentLength", extra={"Header": name, "Value": value})
    return int(value)


def _content_md5(headers: Mapping[str, str]) -> bytes | None:
    value = headers.get("content-md5")
    if value is None:
        return None
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", extra={"Content-MD5": value})
    return digest


def _trailer_names(headers: Mapping[str, str], mode: PayloadMode) -> frozenset[str]:
    names = [name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip()]
    if any(name not in map(checksums.header_name, checksums.ALGORITHMS) for name in names):
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    if len(names) > 1:
        raise S3Error("InvalidRequest", checksums.SINGLE)
    if names and checksums.declared(headers):
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header")
    if "x-amz-trailer" in headers and not mode.trailer:
        raise S3Error("MalformedTrailerError")
    return frozenset(names)


def _checksum_wanted(headers: Mapping[str, str], trailers: frozenset[str]) -> tuple[str | None, bytes | None]:
    """(algorithm, digest): the digest None when it comes in the trailer; both None when no checksum is declared."""
    declared = checksums.declared(headers)
    algorithm = declared[0] if declared else next(iter(trailers)).removeprefix("x-amz-checksum-") if trailers else None
    named = headers.get(_SDK_ALGORITHM)
    if named is not None:
        if algorithm is None:
            message = f"{_SDK_ALGORITHM} specified, but no corresponding {_SENT} headers were found."
            raise S3Error("InvalidRequest", message)
        if named.strip().lower() != algorithm:
            raise S3Error("InvalidRequest", f"Value for {_SDK_ALGORITHM} header is invalid.")
    return algorithm, checksums.decode(*declared) if declared else None

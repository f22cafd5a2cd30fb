"""aws-chunked, decoded by pushing: the framing that SDKs put around a body to sign it piece by piece.

    <hex size>[;chunk-signature=<64 hex>] CRLF <data> CRLF ... 0[;chunk-signature=...] CRLF [trailers] CRLF

Source: AWS, "Transferring payload in multiple chunks" and "Including trailing headers", Amazon S3 API reference.
Data is released as it arrives; what the decoder holds is one unfinished line. So the caller must not commit
anything before `finish` has returned: only then is every chunk, every trailer and the length verified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import Enum, auto

from gateway.s3.canonical import signed_by
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import EMPTY_SHA256, Auth, PayloadMode

Buffer = bytes | bytearray | memoryview

LINE_BYTES_MAX = 256  # "0;chunk-signature=" and a signature need 83
TRAILERS_MAX = 16
_SIGNATURE_TRAILER = "x-amz-trailer-signature"
_SIGNED_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16});chunk-signature=([0-9a-f]{64})")
_PLAIN_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})")
_TRAILER = re.compile(r"([A-Za-z0-9-]+):(.*)", re.ASCII)


def _broken(hint: str) -> S3Error:
    return S3Error("IncompleteBody", extra={"Hint": hint})


def _malformed(hint: str) -> S3Error:
    return S3Error("MalformedTrailerError", extra={"Hint": hint})


class _State(Enum):
    HEADER = auto()  # a chunk header line
    DATA = auto()
    DATA_END = auto()  # the empty line after the data of a chunk
    TRAILER = auto()  # trailer lines, up to an empty one
    END = auto()


class ChunkDecoder:
    """Feed everything, then finish. `trailers` (lower-case names) is complete and trusted after `finish`.

    trailer_names: what x-amz-trailer announced; just those must come.
    """

    def __init__(self, mode: PayloadMode, auth: Auth, decoded_length: int, trailer_names: frozenset[str]) -> None:
        assert mode.chunked and (mode.trailer or not trailer_names)
        self.trailers: dict[str, str] = {}
        self._mode = mode
        self._auth = auth
        self._remaining = decoded_length
        self._length = decoded_length
        self._trailer_names = trailer_names
        self._state = _State.HEADER
        self._line = bytearray()  # of an unfinished line
        self._chunk_left = 0
        self._hash = hashlib.sha256()
        self._claimed = ""  # signature of the chunk that is being read
        self._previous = auth.signature
        self._trailer_signature = ""
        self._blank_after_end = False
        self._on_line: dict[_State, Callable[[bytes], None]] = {
            _State.HEADER: self._chunk_header,
            _State.DATA_END: self._chunk_end,
            _State.TRAILER: self._trailer,
            _State.END: self._after_end,
        }

    def feed(self, data: Buffer) -> list[memoryview]:
        """Object bytes contained in `data`, as views of it. S3Error when the framing or a signature is wrong."""
        view = memoryview(data).toreadonly()
        released: list[memoryview] = []
        at = 0
        while at < len(view):
            if self._state is _State.DATA:
                piece = view[at : at + self._chunk_left]
                at += len(piece)
                self._take(piece)
                released.append(piece)
            else:
                at += self._read_line(view[at : at + LINE_BYTES_MAX])
        return released

    def finish(self) -> None:
        """The body has ended here. S3Error unless it was whole and everything in it verified."""
        if self._state is _State.TRAILER and not self._line and not self._mode.trailer:
            self._state = _State.END  # the last CRLF after the last chunk is left out by some clients
        if self._state is _State.TRAILER and not self._line and self._trailers_complete():
            self._end_of_trailers()
        if self._state is not _State.END or self._line:
            got = self._length - self._remaining
            raise _broken(f"It ended within a chunk, after {got} of {self._length} bytes.")

    def _take(self, piece: memoryview) -> None:
        if self._mode.signed:
            self._hash.update(piece)
        self._chunk_left -= len(piece)
        self._remaining -= len(piece)
        if not self._chunk_left:
            self._state = _State.DATA_END

    def _read_line(self, view: memoryview) -> int:
        """Consumes up to and including the next line feed; returns how much."""
        part = bytes(view)
        length = part.find(b"\n")
        taken = part if length < 0 else part[: length + 1]
        self._line += taken
        if len(self._line) > LINE_BYTES_MAX:
            raise _broken(f"A line of the chunk framing is longer than {LINE_BYTES_MAX} bytes.")
        if length >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._on_line[self._state](line)
        return len(taken)

    def _chunk_header(self, line: bytes) -> None:
        pattern = _SIGNED_HEADER if self._mode.signed else _PLAIN_HEADER
        found = pattern.fullmatch(line.removesuffix(b"\r\n"))
        if not found:
            form = "size;chunk-signature=..." if self._mode.signed else "size"
            raise _broken(f"A chunk header is not of the form {form} that {self._mode.value} needs.")
        size = int(found[1], 16)
        if size > self._remaining:
            announced = f"x-amz-decoded-content-length announces {self._length}"
            raise _broken(f"It has more bytes than {announced}.")
        self._claimed = found[2].decode("ascii") if self._mode.signed else ""
        if size:
            self._chunk_left = size
            self._state = _State.DATA
            return
        if self._remaining:
            got = self._length - self._remaining
            raise _broken(f"The last chunk came after {got} of {self._length} bytes.")
        self._verify_chunk()
        self._state = _State.TRAILER

    def _chunk_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise _broken("The data of a chunk is not followed by CRLF: its size is wrong.")
        self._verify_chunk()
        self._state = _State.HEADER

    def _verify_chunk(self) -> None:
        if not self._mode.signed:
            return
        digest = self._hash.hexdigest()
        self._verify("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY_SHA256}\n{digest}", self._claimed, "a chunk")
        self._previous = self._claimed
        self._hash = hashlib.sha256()

    def _verify(self, algorithm: str, digests: str, claimed: str, what: str) -> None:
        text = f"{algorithm}\n{self._auth.date}\n{self._auth.scope}\n{self._previous}\n{digests}"
        if not signed_by(self._auth.signing_key, text, claimed):
            hint = f"The signature of {what} does not match its content."
            extra = {"StringToSign": text, "SignatureProvided": claimed, "Hint": hint}
            raise S3Error("SignatureDoesNotMatch", extra=extra)

    def _trailer(self, line: bytes) -> None:
        """Lines end in CRLF; a bare line feed is taken too, since some SDKs write one after the value."""
        text = line.decode("latin-1").strip()
        if not text:
            if self._trailers_complete():
                self._end_of_trailers()
            elif line != b"\r\n" or not self.trailers:
                raise _malformed("They ended before all that x-amz-trailer announces came.")
            return
        found = _TRAILER.fullmatch(text)
        if not found or not self._mode.trailer or len(self.trailers) >= TRAILERS_MAX:
            raise _malformed("The body goes on after its last chunk with something unannounced.")
        name, value = found[1].lower(), found[2].strip()
        if name == _SIGNATURE_TRAILER and self._mode.signed:
            self._trailer_signature = value
        elif name in self._trailer_names and name not in self.trailers:
            self.trailers[name] = value
        else:
            raise _malformed(f"{name} is not announced by x-amz-trailer, or came twice.")

    def _trailers_complete(self) -> bool:
        signed = bool(self._trailer_signature) or not (self._mode.signed and self._mode.trailer)
        return signed and self.trailers.keys() == self._trailer_names

    def _end_of_trailers(self) -> None:
        if self._mode is PayloadMode.SIGNED_CHUNKS_TRAILER:
            lines = "".join(f"{name}:{value}\n" for name, value in sorted(self.trailers.items()))
            digest = hashlib.sha256(lines.encode("latin-1")).hexdigest()
            self._verify("AWS4-HMAC-SHA256-TRAILER", digest, self._trailer_signature, "the trailers")
        self._state = _State.END

    def _after_end(self, line: bytes) -> None:
        """One empty line too many is harmless, and what some SDKs send; anything else was never announced."""
        if line != b"\r\n" or self._blank_after_end:
            raise _broken("The body goes on after its end.")
        self._blank_after_end = True

"""The multipart/form-data of a browser upload, as a stream: all fields before the file, then the bytes of the file.

What follows the file is not looked at, as AWS does it. Sources: RFC 7578, RFC 2046 section 5.1; AWS, "Browser-based
uploads using POST". Pure.
"""

from __future__ import annotations

import re
from enum import Enum

from gateway.s3.errors import S3Error

FIELDS_BYTES_MAX = 20_000  # of everything before the file
_DISPOSITION = re.compile(r';\s*(name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]+))', re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,200})"|([^;\s"]{1,200}))', re.IGNORECASE)


class _State(Enum):
    DELIMITER = "before a delimiter"
    HEADERS = "in the headers of a part"
    FILE = "in the file"
    OVER = "behind the file"


def boundary_of(content_type: str) -> bytes:
    """S3Error PreconditionFailed: it is no such form."""
    kind, _, _ = content_type.partition(";")
    found = _BOUNDARY.search(content_type)
    if kind.strip().lower() != "multipart/form-data" or found is None:
        message = "Bucket POST must be of the enclosure-type multipart/form-data"
        raise S3Error("PreconditionFailed", message, extra={"Condition": message})
    return (found[1] or found[2]).encode("utf-8", "surrogateescape")


class FormReader:
    """`feed` what comes. `fields` is complete once `has_file`; `begins_at`: where the file begins in the body."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}  # lower-case name -> value
        self.filename = ""
        self.file_type = ""  # content type of its part, "" if it has none
        self.begins_at = 0
        self.file_ended = False
        self.boundary = boundary
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter is like the others
        self._fed = 0
        self._state = _State.DELIMITER
        self._name = ""

    @property
    def has_file(self) -> bool:
        return self._state in (_State.FILE, _State.OVER)

    def feed(self, data: bytes) -> bytes:
        """Bytes of the file. S3Error MalformedPOSTRequest, MaxPostPreDataLengthExceededError, InvalidArgument."""
        if self._state is _State.OVER:
            return b""
        self._buffer += data
        self._fed += len(data)
        while not self.has_file and self._step():
            pass
        if self._state is _State.FILE:
            if self.begins_at > FIELDS_BYTES_MAX:
                raise S3Error("MaxPostPreDataLengthExceededError")
            return self._file()
        if self._fed > FIELDS_BYTES_MAX:
            raise S3Error("MaxPostPreDataLengthExceededError")
        return b""

    def finish(self) -> None:
        """At the end of the body. S3Error."""
        if not self.has_file:
            text = "POST requires exactly one file upload per request."
            raise S3Error("InvalidArgument", text, extra={"ArgumentName": "file", "ArgumentValue": "0"})
        if not self.file_ended:
            raise _malformed("it ends within the file")

    def _step(self) -> bool:
        """Whether there may be more to read in the buffer."""
        if self._state is _State.DELIMITER:
            found = self._buffer.find(self._delimiter)
            after = found + len(self._delimiter)
            if found < 0 or len(self._buffer) < after + 2:
                return False
            if self._name:
                self._keep(bytes(self._buffer[:found]))
            if self._buffer.startswith(b"--", after):
                self.finish()
            line_end = self._buffer.find(b"\r\n", after)
            if line_end < 0:
                return False
            if self._buffer[after:line_end].strip(b" \t"):
                raise _malformed("a delimiter does not end its line")
            del self._buffer[:line_end]  # the line end stays: there may be no headers
            self._state = _State.HEADERS
            return True
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._read_headers(_text(bytes(self._buffer[2:end])))
        del self._buffer[: end + 4]
        if self._name == "file":
            self._state, self.begins_at = _State.FILE, self._fed - len(self._buffer)
            return False
        if self._name in self.fields:
            raise S3Error("InvalidArgument", f"The form has the field {self._name} more than once.")
        self._state = _State.DELIMITER
        return True

    def _read_headers(self, text: str) -> None:
        headers = dict(line.partition(":")[::2] for line in text.split("\r\n") if line)
        headers = {name.strip().lower(): value.strip() for name, value in headers.items()}
        disposition = headers.get("content-disposition", "")
        found = {match[1].lower(): match[2] or match[3] or "" for match in _DISPOSITION.finditer(disposition)}
        if not disposition.lower().startswith("form-data") or not found.get("name"):
            raise _malformed("a part has no name")
        self._name = found["name"].replace('\\"', '"').lower()
        if self._name == "file":
            self.filename = re.split(r"[/\\]", found.get("filename", "").replace('\\"', '"'))[-1]
            self.file_type = headers.get("content-type", "")

    def _keep(self, value: bytes) -> None:
        self.fields[self._name] = _text(value)
        self._name = ""

    def _file(self) -> bytes:
        found = self._buffer.find(self._delimiter)
        if found >= 0:
            data = bytes(self._buffer[:found])
            self._buffer.clear()
            self._state, self.file_ended = _State.OVER, True
            return data
        keep = min(len(self._buffer), len(self._delimiter) - 1)  # a delimiter may have begun
        data = bytes(self._buffer[: len(self._buffer) - keep])
        del self._buffer[: len(self._buffer) - keep]
        return data


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed("a field is not UTF-8") from None


def _malformed(why: str) -> S3Error:
    message = f"The body of your POST request is not well-formed multipart/form-data: {why}."
    return S3Error("MalformedPOSTRequest", message)

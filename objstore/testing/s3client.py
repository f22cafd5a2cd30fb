"""A small S3 client, so that the demo and the tests need no SDK: http.client and Signature Version 4.

It never retries: a request that fails is a fact that its caller wants to count. One connection per thread.
Written from the AWS documentation, not from the gateway's code, so that a mistake there shows here.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

PART_SIZE = 8 << 20  # a larger file travels in parts of this size
CHUNK = 1 << 20
_IDLE_S = 2.0  # a connection idle for longer may be closed by the other side at any moment: make a new one


class S3Error(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, code: str, message: str, action: str) -> None:
        super().__init__(f"{action}: {status} {code}: {message}")
        self.status = status
        self.code = code


class Answer(NamedTuple):
    """Whatever the server answered, an error too."""

    status: int
    headers: http.client.HTTPMessage  # its names in any case
    body: bytes

    @property
    def code(self) -> str:
        """Of the error that it holds, else ""."""
        return _find(self.body, "Code") if b"<Error>" in self.body else ""

    def find(self, name: str) -> str:
        """The text of the first XML element of that name, else ""."""
        return _find(self.body, name)


class S3Client:
    """Errors: S3Error, OSError, http.client.HTTPException."""

    def __init__(
        self, endpoint: str, access_key: str, secret_key: str, region: str, *, timeout_s: float = 30.0
    ) -> None:
        self.endpoint = endpoint
        self._host = urlsplit(endpoint).netloc
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Of all threads; each makes a new connection if it goes on."""
        for connection in self._connections:
            connection.close()

    def create_bucket(self, bucket: str) -> None:
        self._call("PUT", f"/{bucket}")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self._call("PUT", f"/{bucket}/{key}", body=data)

    def get(self, bucket: str, key: str) -> bytes:
        return self._call("GET", f"/{bucket}/{key}")

    def delete(self, bucket: str, key: str) -> None:
        self._call("DELETE", f"/{bucket}/{key}")

    def put_file(self, bucket: str, key: str, path: Path) -> None:
        """In one piece, or as a multipart upload if it is larger than PART_SIZE."""
        if path.stat().st_size <= PART_SIZE:
            self.put(bucket, key, path.read_bytes())
            return
        where = f"/{bucket}/{key}"
        upload_id = _find(self._call("POST", where, {"uploads": ""}), "UploadId")
        etags: list[str] = []
        with path.open("rb") as file:
            while part := file.read(PART_SIZE):
                query = {"partNumber": str(len(etags) + 1), "uploadId": upload_id}
                response = self._send("PUT", where, query, part)
                response.read()
                etags.append(response.headers["ETag"])
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = self._call("POST", where, {"uploadId": upload_id}, body)
        if b"<Error>" in answer:  # this one may fail after its 200
            raise S3Error(200, _find(answer, "Code"), _find(answer, "Message"), f"POST {where}")

    def chunks(self, bucket: str, key: str) -> Iterator[bytes]:
        """The object, piece by piece. Read it to the end."""
        response = self._send("GET", f"/{bucket}/{key}", {}, b"")
        while chunk := response.read(CHUNK):
            yield chunk

    def keys(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """All keys, page by page."""
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
            if token:
                query["continuation-token"] = token
            page = ElementTree.fromstring(self._call("GET", f"/{bucket}", query))
            for entry in page.iter():
                if entry.tag.endswith("}Key") or entry.tag == "Key":
                    yield unquote(entry.text or "")
            token = next((e.text or "" for e in page.iter() if e.tag.endswith("NextContinuationToken")), "")
            if not token:
                return

    # --- one request ---

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        """One request, whatever comes of it. Never S3Error."""
        response = self._exchange(method, path, query or {}, body, headers or {}, timeout_s)
        try:
            content = response.read()
        except (OSError, http.client.HTTPException):
            self._connection().close()
            raise
        return Answer(response.status, response.headers, content)

    def _call(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
        return self._send(method, path, query or {}, body).read()

    def _send(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> http.client.HTTPResponse:
        response = self._exchange(method, path, query, body, {}, None)
        if response.status >= 300:
            answer = response.read()
            code = _find(answer, "Code") or response.reason
            raise S3Error(response.status, code, _find(answer, "Message"), f"{method} {path}")
        return response

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        more: Mapping[str, str],
        timeout_s: float | None,
    ) -> http.client.HTTPResponse:
        target = quote(path, safe="/-_.~")
        arguments = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
        headers = self._sign(method, target, arguments, body, more)
        connection = self._connection()
        connection.timeout = self._timeout_s if timeout_s is None else timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        try:
            connection.request(method, f"{target}?{arguments}" if arguments else target, body=body, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request of this thread makes a new one
            raise
        finally:
            self._local.used = time.monotonic()

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._host, timeout=self._timeout_s)
            self._connections.append(connection)
        elif time.monotonic() - self._local.used > _IDLE_S:
            connection.close()  # it connects again by itself
        return connection

    def _sign(
        self, method: str, target: str, arguments: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
        now = time.gmtime()
        stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self._host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        headers |= {name.lower(): value.strip() for name, value in (more or {}).items()}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        request = "\n".join((method, target, arguments, lines, names, digest))
        scope = f"{day}/{self._region}/s3/aws4_request"
        to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{self._secret_key}".encode()
        for word in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._access_key}/{scope},SignedHeaders={names},Signature={signature}"
        )
        return headers


def _find(xml: bytes, name: str) -> str:
    """The text of the first element of that name, whatever its namespace; "" if there is none."""
    if not xml.lstrip().startswith(b"<"):
        return ""
    found = (element.text for element in ElementTree.fromstring(xml).iter() if element.tag.rpartition("}")[2] == name)
    return next(found, "") or ""

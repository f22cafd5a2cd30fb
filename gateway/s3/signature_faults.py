"""Why a signature does not match: likely originals of the request are tried until the signature fits one of them.

After a wrong secret key the usual reasons are a proxy that rewrites a signed header, and a client that encodes the path
or the query in its own way. What is said here is known to whoever made the signature: it fits only what was signed
with the secret itself. Of the secret only such variants are tried that contain it whole, so that nobody can find it
piece by piece. Only for a request that is refused, and bounded: by the number of tries, fewer for a long request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

from gateway.s3.canonical import Canonical, signed_by, signing_key, string_to_sign
from gateway.s3.errors import S3Error
from gateway.s3.target import percent_decode, percent_encode

TRIES_MAX = 160
BYTES_MAX = 400_000  # of canonical requests, over all tries
_EMPTY = hashlib.sha256(b"").hexdigest()
_UNSIGNED = "UNSIGNED-PAYLOAD"
_FORWARDED_HOST = ("x-forwarded-host", "x-original-host")
_METHODS = ("GET", "PUT", "HEAD", "POST", "DELETE")
_REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "auto")
_SERVICES = ("s3", "execute-api", "s3-object-lambda", "s3express", "iam", "sts", "es")
_USUAL = {  # values that clients sign, of headers that proxies and HTTP libraries change, add or take away
    "accept-encoding": ("identity", "gzip", "gzip, deflate", "gzip, deflate, br", "gzip, deflate, br, zstd", ""),
    "connection": ("keep-alive", "close", "Keep-Alive", ""),
    "content-length": ("0", ""),
    "content-type": (
        "",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        "application/xml",
        "text/plain",
    ),
    "expect": ("100-continue", ""),
    "te": ("trailers", ""),
    "transfer-encoding": ("chunked", ""),
}


class Signature(NamedTuple):
    """What a request says of its signature, and the secret that it should be made with."""

    secret: str
    date: str  # 20130524T000000Z
    day: str
    region: str
    scope: str
    value: str
    service: str = "s3"

    def to_sign(self, request: Canonical) -> str:
        return string_to_sign(self.date, self.scope, request.text())


def explain(request: Canonical, signature: Signature, path: str) -> str:
    """One or two sentences for a person. `path`: as it came, undecoded."""
    here = signature.to_sign(request)
    for cause, key in _keys(signature):
        if signed_by(key, here, signature.value):
            return cause
    key = _key(signature, signature.secret)
    tries = min(TRIES_MAX, BYTES_MAX // len(request.text()))
    for cause, changed in islice(_originals(request, path), tries):
        if signed_by(key, signature.to_sign(changed), signature.value):
            return cause
    missing = [name for name in request.signed if name not in request.headers]
    if missing:
        names = ", ".join(missing)
        return f"Signed, but not arrived: {names}. A proxy between client and gateway may have removed it."
    return (
        "Check the secret key first: the signature fits none of the usual changes that a request suffers on its way. "
        "If it is right, compare CanonicalRequest with the one of the client: the first line that differs is what "
        "changed."
    )


def _originals(request: Canonical, path: str) -> Iterator[tuple[str, Canonical]]:
    """Requests that the client may have signed in place of the one that arrived, and what made this of them."""
    yield from _hosts(request)
    yield from _headers(request)
    yield from _others(request)
    yield from _paths(request, path)
    yield from _queries(request)
    for cause, one in _hosts(request):  # a proxy that rewrites the host rarely stops there
        yield from ((f"{cause} {more}", both) for more, both in _headers(one))


def _keys(signature: Signature) -> Iterator[tuple[str, bytes]]:
    secret, day, region = signature.secret, signature.day, signature.region
    blanks = (secret + "\n", secret + "\r\n", secret + "\r", secret + " ", " " + secret, secret + "\t")
    for one in blanks:
        yield "The secret key of the client has a space or line end around it. Remove it there.", _key(signature, one)
    for one in (f'"{secret}"', f"'{secret}'"):
        yield "The secret key of the client has quotes around it. Remove them there.", _key(signature, one)
    if (encoded := quote(secret, safe="")) != secret:
        yield "The secret key of the client is percent-encoded. Decode it there.", _key(signature, encoded)
    for one in _REGIONS:
        if one != region:
            text = f"The signing key was derived for the region {one!r}, but the Credential says {region!r}."
            text += " Configure one and the same region in the client."
            yield text, signing_key(secret, day, one, signature.service)
    for one in _SERVICES:
        text = f"The signing key was derived for the service {one!r}, but it must be {signature.service!r}."
        yield text, signing_key(secret, day, region, one)
    if known := _date(day):
        for days in (-1, 1):
            one = (known + timedelta(days=days)).strftime("%Y%m%d")
            text = f"The signing key was derived for the day {one}, but the Credential says {day}. Both must be in UTC."
            yield text, signing_key(secret, one, region, signature.service)


def _key(signature: Signature, secret: str) -> bytes:
    return signing_key(secret, signature.day, signature.region, signature.service)


def _date(day: str) -> datetime | None:
    try:
        found = datetime.strptime(day, "%Y%m%d")
    except ValueError:
        return None
    return found if 1 < found.year < 9999 else None


def _headers(request: Canonical) -> Iterator[tuple[str, Canonical]]:
    headers = request.headers
    for name in request.signed:
        arrived = headers.get(name, "")
        originals = list(_USUAL.get(name, ()))
        if name == "content-type" and ";" in arrived:
            originals.insert(0, arrived.partition(";")[0].strip())
        if name == "content-type" and arrived and ";" not in arrived:
            originals += [f"{arrived}; charset=utf-8", f"{arrived}; charset=UTF-8", f"{arrived};charset=utf-8"]
        if name == "content-length" and (decoded := headers.get("x-amz-decoded-content-length")):
            originals.insert(0, decoded)
        if name != "host" and "," in arrived:
            originals.append(arrived.rpartition(",")[0].rstrip())  # proxies add themselves at the end
        if name.startswith("x-forwarded-"):
            originals.append("")
        yield from (_with_header(request, name, one) for one in originals if one != arrived)


def _hosts(request: Canonical) -> Iterator[tuple[str, Canonical]]:
    headers = request.headers
    host = headers.get("host", "")
    originals = [headers[name].split(",")[0].strip() for name in _FORWARDED_HOST if headers.get(name)]
    if found := re.search(r'host="?([^;,"\s]+)', headers.get("forwarded", ""), re.IGNORECASE):
        originals.append(found[1])
    if port := headers.get("x-forwarded-port"):
        originals += [f"{one}:{port}" for one in (*originals, host.partition(":")[0])]
    name, colon, number = host.rpartition(":")
    if colon and number.isdigit():
        originals.append(name)
    else:
        originals += [f"{host}:{number}" for number in ("80", "443", "9000", "8080")]
    if host != host.lower():
        originals.append(host.lower())
    yield from (_with_header(request, "host", one) for one in dict.fromkeys(originals) if one and one != host)
    label, dot, domain = host.partition(".")
    first, slash, rest = request.path[1:].partition("/")
    if dot and not first.startswith(label):
        text = f"The signature fits if the bucket {label!r} stands in the path, but it arrived in the host: a proxy"
        changed = {**headers, "host": domain}
        moved = request._replace(headers=changed, path=f"/{label}{request.path}")
        yield f"{text} rewrites the style of addressing. Pass host and path through unchanged.", moved
    if first and slash:
        text = f"The signature fits if the bucket {first!r} stands in the host, but it arrived in the path: a proxy"
        changed = {**headers, "host": f"{first}.{host}"}
        moved = request._replace(headers=changed, path=f"/{rest}")
        yield f"{text} rewrites the style of addressing. Pass host and path through unchanged.", moved


def _with_header(request: Canonical, name: str, value: str) -> tuple[str, Canonical]:
    cause = (
        f"The signature fits if the header {name} is {value!r}, but it arrived as {request.headers.get(name, '')!r}: a "
        f"proxy between client and gateway rewrites it. Make the proxy pass {name} through unchanged."
    )
    return cause, request._replace(headers={**request.headers, name: value})


def _paths(request: Canonical, raw: str) -> Iterator[tuple[str, Canonical]]:
    """Ways in which clients encode a path when they sign it, and in which proxies change it."""
    path = request.path
    found: list[tuple[str, str]] = [
        ("a proxy between client and gateway encoded the path again", _decoded_again(path)),
        ("the client encodes the path twice when it signs it; S3 encodes it once", percent_encode(path, keep="/")),
        ("the client leaves some characters of the path unencoded when it signs it", raw),
        ("the path has + where the client signed a space: send %20", path.replace("%2B", "%20")),
        ("a proxy or the client turned a + of the path into a space: send %2B", path.replace("%20", "%2B")),
        ("the client signs a space of the path as +; it must be %20", path.replace("%20", "+")),
        ("the client signs a + of the path as it stands; it must be %2B", path.replace("%2B", "+")),
        ("the client writes lower-case hexadecimal digits; they must be upper-case", _lower(path)),
        ("the client or a proxy merges slashes of the path", re.sub("/+", "/", path)),
        ("a proxy added a slash at the end of the path", path.rstrip("/") or "/"),
        ("a proxy removed a slash at the end of the path", path + "/"),
        ("the client leaves some characters of the path unencoded when it signs it", _kept(path, "/!'()*")),
        ("the client leaves some characters of the path unencoded when it signs it", _kept(path, "/:@!$&'()*+,;=")),
        ("the client signs the path without encoding it", _plain(path)),
        ("the client encodes the slashes of the key", _slashes(path)),
    ]
    if prefix := request.headers.get("x-forwarded-prefix", "").rstrip("/"):
        found.append((f"a proxy removed {prefix!r} from the path", prefix + path))
    seen = {path}
    for cause, one in found:
        if one not in seen:
            seen.add(one)
            text = f"The signature fits if the path is {one!r}, but as it arrived it is {path!r}: {cause}."
            yield text, request._replace(path=one)


def _plain(path: str) -> str:
    try:
        return percent_decode(path)
    except S3Error:
        return path


def _decoded_again(path: str) -> str:
    try:
        return percent_encode(percent_decode(percent_decode(path)), keep="/")
    except S3Error:  # there was nothing to decode
        return path


def _kept(path: str, keep: str) -> str:
    return percent_encode(_plain(path), keep=keep)


def _lower(path: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), path)


def _slashes(path: str) -> str:
    bucket, slash, key = path[1:].partition("/")
    return f"/{bucket}{slash}{key.replace('/', '%2F')}"


def _queries(request: Canonical) -> Iterator[tuple[str, Canonical]]:
    pairs = request.query
    found: list[tuple[str, Callable[[str], str]]] = [
        (
            "a + of the query means a space here, but the client signed it as +: send %2B",
            lambda it: _swap(it, " ", "+"),
        ),
        ("the query arrived with %2B where the client signed a space: send %20", lambda it: _swap(it, "+", " ")),
        ("a proxy between client and gateway encoded the query again", _plain),
        ("the client encodes the query twice when it signs it", percent_encode),
    ]
    for cause, change in found:
        changed = tuple((name, change(value)) for name, value in pairs)
        if changed != pairs:
            yield f"The signature fits another query: {cause}.", request._replace(query=changed)
    added = [pair for pair in pairs if not pair[0].lower().startswith("x-amz-")]
    for name, value in added[:8]:
        left = tuple(pair for pair in pairs if pair != (name, value))
        text = f"The signature fits without the parameter {name!r}: it was added after the request was signed."
        yield text, request._replace(query=left)
    if len(added) > 1:
        left = tuple(pair for pair in pairs if pair not in added)
        names = ", ".join(name for name, _ in added)
        text = f"The signature fits without the parameters {names}: they were added after the request was signed."
        yield text, request._replace(query=left)


def _swap(text: str, old: str, new: str) -> str:
    return text.replace(old, new)


def _others(request: Canonical) -> Iterator[tuple[str, Canonical]]:
    """The method, and the hash of the payload."""
    for method in _METHODS:
        if method != request.method:
            text = f"The signature is of a {method} request, but {request.method} arrived: sign what is sent."
            yield text, request._replace(method=method)
    for payload in (_UNSIGNED, _EMPTY):
        if payload != request.payload:
            text = (
                f"The client signed {payload!r} as the hash of the payload, but x-amz-content-sha256 says "
                f"{request.payload!r}; both must be the same."
            )
            yield text, request._replace(payload=payload)
    if request.payload != request.payload.lower():
        text = "The client signed x-amz-content-sha256 in lower case, but it arrived in another."
        yield text, request._replace(payload=request.payload.lower())

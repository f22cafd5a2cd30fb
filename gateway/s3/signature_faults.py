"""Why a signature does not match, as far as the request itself can tell.

The usual reason, after a wrong secret key, is a proxy between client and gateway that rewrites a signed header. So the
likely originals are tried: if the signature fits one of them, the hint names the header and both values. Otherwise it
lists the signed headers that did not arrive. Nothing here is a secret: it is all known to whoever made the signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

_FORWARDED_HOST = ("x-forwarded-host", "x-original-host")
_ENCODINGS = ("identity", "gzip", "gzip, deflate", "gzip, deflate, br", "")


def explain(signed: tuple[str, ...], headers: Mapping[str, str], fits: Callable[[Mapping[str, str]], bool]) -> str:
    """`fits(headers)`: whether the signature would match these. One or two sentences for a person."""
    for name, value in _originals(signed, headers):
        if fits({**headers, name: value}):
            return (
                f"The signature fits if the header {name} is {value!r}, but it arrived as {headers.get(name, '')!r}: a "
                f"proxy between client and gateway rewrites it. Make the proxy pass {name} through unchanged."
            )
    missing = [name for name in signed if name not in headers]
    if missing:
        names = ", ".join(missing)
        return f"Signed, but not arrived: {names}. A proxy between client and gateway may have removed it."
    return (
        "Check the secret key first. If it is right, compare CanonicalRequest with the one of the client: "
        "the first line that differs is what changed on the way."
    )


def _originals(signed: tuple[str, ...], headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Values that the client may have signed in place of those that arrived; few, since each costs a signature."""
    host = headers.get("host", "")
    name, colon, port = host.rpartition(":")
    for forwarded in _FORWARDED_HOST:
        if headers.get(forwarded):
            yield "host", headers[forwarded].split(",")[0].strip()
    if colon and port in ("80", "443"):
        yield "host", name
    elif not (colon and port.isdigit()):
        yield "host", host + ":80"
        yield "host", host + ":443"
    if "accept-encoding" in signed:
        for encoding in _ENCODINGS:
            yield "accept-encoding", encoding
    if "expect" in signed and "expect" not in headers:
        yield "expect", "100-continue"

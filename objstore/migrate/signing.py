"""Signature Version 4 in headers, of requests without a body. Pure.

Source: AWS, "Authenticating Requests: Using the Authorization Header".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

EMPTY = hashlib.sha256(b"").hexdigest()


def encoded_path(bucket: str, key: str = "") -> str:
    return "/" + quote(bucket, safe="-_.~") + ("/" + quote(key, safe="/-_.~") if key else "")


def encoded_query(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    access_key: str,
    secret: str,
    region: str,
    now_ms: int,
) -> dict[str, str]:
    """`headers` (lower case, "host" among them) with those that sign all of them. `path`, `query`: encoded."""
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    every = {**headers, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    names = ";".join(sorted(every))
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in sorted(every.items()))
    canonical = "\n".join((method, path, query, lines, names, EMPTY))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    credential = f"{access_key}/{scope}"
    every["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return every

"""Signature Version 4 in the query of a URL: what makes a load generator cheap. Pure.

The payload is not signed, so nothing of it is hashed here, and a request is text that can be put together at once.
Source: AWS, "Authenticating Requests: Using Query Parameters".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from urllib.parse import quote

EXPIRES_S = 86_400
_PLAIN = re.compile(r"[A-Za-z0-9/\-._~]*")  # is encoded as it stands


class Signer:
    """Of one access key for one host on one day. `now`: "20260131T235959Z"."""

    def __init__(self, access_key: str, secret: str, region: str, host: str, now: str) -> None:
        day = now[:8]
        scope = f"{day}/{region}/s3/aws4_request"
        key = f"AWS4{secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key
        self._before = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n"
        self._host = host
        credential = quote(f"{access_key}/{scope}", safe="")
        self._fields = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={now}"
            f"&X-Amz-Expires={EXPIRES_S}&X-Amz-SignedHeaders=host"
        )

    def target(self, method: str, path: str, query: Sequence[tuple[str, str]] = ()) -> str:
        """Path and query, signed. `path` begins with "/" and is not encoded; the names in `query` begin with a letter
        after "X", which is where the order of the fields comes from."""
        encoded = path if _PLAIN.fullmatch(path) else quote(path, safe="/-._~")
        more = "".join(f"&{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in sorted(query))
        if query and min(name for name, _ in query) < "X-Amz-T":
            raise ValueError("these names would have to come first")
        fields = self._fields + more
        asked = f"{method}\n{encoded}\n{fields}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        text = self._before + hashlib.sha256(asked.encode()).hexdigest()
        return f"{encoded}?{fields}&X-Amz-Signature={hmac.digest(self._key, text.encode(), 'sha256').hex()}"

"""What one gateway process is told: whom it trusts, its bounds, and its doors to clock and randomness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from gateway.port import IdentityStore
from objstore.model.lifecycle import DAY_MS
from objstore.model.sealed import KeyRing
from objstore.notify.sender import Sender
from objstore.ports import Clock, Random


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Seconds and counts are defaults for production; tests shorten them."""

    region: str
    keys: Mapping[str, str] = field(repr=False)  # access key -> secret key
    clock: Clock
    random: Random
    identities: IdentityStore | None = field(default=None, repr=False)  # users; None: only `keys` sign in
    encryption: KeyRing | None = field(default=None, repr=False)  # None: only keys of clients encrypt
    notify: Sender | None = None  # to the targets of event notifications; None: there are none
    lifecycle_day_ms: int = DAY_MS  # of rules that count in days
    domain: str | None = None  # for virtual-host addressing: bucket.domain
    requests_max: int = 1024  # in flight; beyond it a request is answered 503 SlowDown at once
    default_checksum: str | None = "crc64nvme"  # computed and stored when a client names none, as AWS does
    deletes_at_once: int = 32  # of one DeleteObjects request
    body_idle_s: float = 60.0  # without a byte of a request body: RequestTimeout
    send_idle_s: float = 60.0  # for the client to take 256 KiB of a response body, else the connection is dropped
    keep_alive_s: float = 75.0  # an idle connection
    linger_s: float = 5.0  # how long the rest of a refused request body is read and thrown away
    patience_s: float = 10.0  # a copy or completion that takes longer is kept alive by white space, this often
    metrics: Callable[[], Awaitable[bytes]] | None = None  # what metrics are; None: they are not shown here
    metrics_token: str = field(default="", repr=False)  # "": whoever asks may see them

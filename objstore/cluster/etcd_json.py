"""What is said to etcd's v3 JSON gateway and what it answers, and what its refusals mean. Pure.

The gateway writes 64-bit numbers as strings, bytes in base64, and leaves out what is zero, false or empty.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, TypeVar

import msgspec

RANGE = "/v3/kv/range"
PUT = "/v3/kv/put"
DELETE = "/v3/kv/deleterange"
TXN = "/v3/kv/txn"
GRANT = "/v3/lease/grant"
KEEP_ALIVE = "/v3/lease/keepalive"
REVOKE = "/v3/lease/revoke"
WATCH = "/v3/watch"
COMPACT = "/v3/kv/compaction"
AUTHENTICATE = "/v3/auth/authenticate"
VERSION = "/version"

R = TypeVar("R", bound=msgspec.Struct)


# --- requests ---------------------------------------------------------------------------------------------------


def range_of(key: str) -> dict[str, Any]:
    """One key. The default of etcd is a linearizable read, and so is ours."""
    return {"key": key.encode()}


def range_under(prefix: str) -> dict[str, Any]:
    return {"key": prefix.encode(), "range_end": end_of(prefix)}


def put(key: str, value: bytes, lease: int) -> dict[str, Any]:
    return {"key": key.encode(), "value": value, "lease": str(lease)}


def put_if(key: str, revision: int, value: bytes, lease: int) -> dict[str, Any]:
    """revision 0: if the key is absent."""
    return _if(key, revision, {"request_put": put(key, value, lease)})


def delete_if(key: str, revision: int) -> dict[str, Any]:
    return _if(key, revision, {"request_delete_range": {"key": key.encode()}})


def _if(key: str, revision: int, change: dict[str, Any]) -> dict[str, Any]:
    compare = {"key": key.encode(), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
    return {"compare": [compare], "success": [change]}


def watch_under(prefix: str, start_revision: int) -> dict[str, Any]:
    where = {"key": prefix.encode(), "range_end": end_of(prefix)}
    return {"create_request": {**where, "start_revision": str(start_revision), "progress_notify": True}}


def end_of(prefix: str) -> bytes:
    """The first key after all that begin with `prefix`, which is not empty and ends in an ASCII character."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def encode(request: dict[str, Any]) -> bytes:
    return msgspec.json.encode(request)


# --- answers ----------------------------------------------------------------------------------------------------


class Header(msgspec.Struct, frozen=True):
    revision: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class Ranged(msgspec.Struct, frozen=True):
    header: Header
    kvs: list[KeyValue] = []


class Done(msgspec.Struct, frozen=True):
    """Of a put, delete, transaction or compaction."""

    header: Header = Header()
    deleted: int = 0
    succeeded: bool = False


class Lease(msgspec.Struct, frozen=True):
    """`ttl_s` 0: there is no such lease."""

    id: int = msgspec.field(name="ID", default=0)
    ttl_s: int = msgspec.field(name="TTL", default=0)


class KeptAlive(msgspec.Struct, frozen=True):
    result: Lease


class Token(msgspec.Struct, frozen=True):
    token: str = ""


class Version(msgspec.Struct, frozen=True):
    etcdserver: str


class _Event(msgspec.Struct, frozen=True):
    kv: KeyValue


class Watched(msgspec.Struct, frozen=True):
    """One message of a watch. `compact_revision`: the history before it is gone, and the watch with it."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    events: list[_Event] = []

    @property
    def newest(self) -> int:
        """Revision of the newest change in it; 0 without one."""
        return max((event.kv.mod_revision for event in self.events), default=0)


class _WatchLine(msgspec.Struct, frozen=True):
    result: Watched | None = None
    error: dict[str, Any] | None = None


def decode(raw: bytes, kind: type[R]) -> R:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(raw, type=kind, strict=False)


def decode_watched(line: bytes) -> Watched | Refusal:
    found = decode(line, _WatchLine)
    if found.result is not None:
        return found.result
    return refusal(0, line)


# --- refusals ---------------------------------------------------------------------------------------------------


class Fault(Enum):
    """`BUSY`: certainly not done, another member or moment may do. `UNKNOWN`: perhaps done."""

    LEASE_GONE = "lease gone"
    TOKEN = "token"
    NO_AUTH = "no auth"
    DENIED = "denied"
    COMMON_NAME = "common name"
    TOO_LARGE = "too large"
    FULL = "full"
    BUSY = "busy"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"


class Refusal(NamedTuple):
    fault: Fault
    text: str


_FAULTS = (
    ("requested lease not found", Fault.LEASE_GONE),
    ("invalid auth token", Fault.TOKEN),
    ("revision of auth store is old", Fault.TOKEN),
    ("user name is empty", Fault.TOKEN),
    ("authentication is not enabled", Fault.NO_AUTH),
    ("authentication failed", Fault.DENIED),
    ("permission denied", Fault.DENIED),
    ("CommonName of client", Fault.COMMON_NAME),
    ("request is too large", Fault.TOO_LARGE),
    ("database space exceeded", Fault.FULL),
    ("no leader", Fault.BUSY),
    ("too many requests", Fault.BUSY),
)


def refusal(status: int, body: bytes) -> Refusal:
    """What an answer means that is not a success. etcd's texts are stable, its codes are shared by several faults."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        found = None
    if isinstance(found, dict):
        inner = found.get("error")
        text = str(inner.get("message", inner) if isinstance(inner, dict) else found.get("message") or inner)
        unlisted = Fault.UNKNOWN
    else:
        said = body[:200].decode(errors="replace").strip()
        text = f"HTTP status {status}, not an answer of etcd's v3 gateway ({said})"
        unlisted = Fault.FOREIGN if status in (400, 404, 405) else Fault.UNKNOWN
    return Refusal(next((fault for part, fault in _FAULTS if part in text), unlisted), text)

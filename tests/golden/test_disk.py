"""What this release keeps, byte for byte: if one of these tests fails, it no longer reads what an older one wrote.

A new field at the end that may be ignored comes with a new line in `disk_v1.txt` (the old ones stay: they must still
decode). Any other change needs a later format (objstore/model/formats.py), and then a reader of both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from objstore.cluster.mirror import FILE, Kept, Mirror
from objstore.codec import envelope
from objstore.codec.envelope import EnvelopeHeader
from objstore.model.clock import Ballot
from objstore.model.cluster import ClusterMap, ErasureCode, Layout, Node, View, decode_map, encode_map
from objstore.model.cors import BucketCors, CorsRule
from objstore.model.encryption import BucketEncryption
from objstore.model.identity import (
    AccessKey,
    BucketAcl,
    BucketOwnership,
    BucketPolicy,
    NamedPolicy,
    PublicAccessBlock,
    Role,
    Session,
    User,
)
from objstore.model.ids import NodeId
from objstore.model.inventory import BucketInventory, InventoryRule
from objstore.model.lifecycle import BucketLifecycle, LifecycleRule
from objstore.model.locking import BucketLock
from objstore.model.manifest import BlobRef
from objstore.model.notification import BucketNotification, Delivery, Event, Rule
from objstore.model.quota import BucketQuota
from objstore.model.records import (
    Arrived,
    Borrowed,
    KeyState,
    Leaving,
    Lent,
    ListEntry,
    Moves,
    ObjectVersion,
    Retired,
    decode,
    encode,
)
from objstore.model.tagging import BucketTags
from objstore.node import identity, index, journal_format, register_rows
from objstore.node.journal_format import Drop, Fence, Floor, Forget, Value
from objstore.node.volumes import Extent
from objstore.register.acceptor import AcceptorState
from tests.sim.disk import SimDisk

NODE = NodeId("0123456789abcdef")
CLUSTER = "ab" * 16
BLOB = bytes(range(16))
KEY = BLOB + b"\x01photos/cat.jpg"
LOW, HIGH = Ballot(7 << 16, 8), Ballot(9 << 16, 10)
SALT = bytes(range(16, 24))

HEADER = EnvelopeHeader(
    CLUSTER, BLOB, "photos", b"cat.jpg", BLOB[::-1], 1000, 0, 5, 3, "isal", 4, 2, 262144, 1000, 1700, {"a": "b"}
)
MAP = ClusterMap(
    CLUSTER,
    ErasureCode(4, 2),
    10,
    "isal",
    (Node(NODE, "n1", "z1", 100),),
    View(3, Layout((NODE,), ((0, 0),), ((0,),)), (NODE,)),
    View(4, Layout((NODE,), ((0, 1),), ((1,),))),
    b"\x80",
    5,
    "0011223344556677",
    (NODE,),
)
HELD = register_rows.Held(AcceptorState(HIGH, LOW), b"listing", b"state", b"")
STATE = KeyState(
    (ObjectVersion(BLOB, 9, "etag", 1700, {"a": "b"}, (BlobRef(BLOB, 9, "isal", 4, 2, 262144, 1 << 26, ((0, 5),)),)),),
    (Retired(BlobRef(BLOB[::-1], 8, "isal", 4, 2, 262144, 1 << 26), 1600),),
)

REF = BlobRef(BLOB, 9, "isal", 4, 2, 262144, 1 << 26)
MOVED = KeyState(
    (ObjectVersion(BLOB, 9, "etag", 1700, {}, (REF,), borrowed=(Borrowed(b"home", 1),)),),
    moves=Moves(
        (Lent(BLOB, b"to", (REF,), True),), Leaving(BLOB, b"to", BLOB[::-1], (), BLOB), (Arrived(BLOB, b"source"),)
    ),
)

QUOTA = BucketQuota(1 << 40, 1000)
REPORTS = BucketInventory((InventoryRule("i", "reports", "Weekly", True, "inv", "a/", True, ("Size", "ETag"), "1"),))
OPEN = (Delivery("r", "t"),)
EVENT = Event("ObjectCreated:Put", 1700, "b", OPEN, "null", 9, "etag", "::1", "AK", "R1", HIGH.pack(), 2)
RULES = BucketNotification((Rule("r", "t", ("ObjectCreated:*",), "in/", ".jpg", "Topic"),))

LIFECYCLE = BucketLifecycle(
    (LifecycleRule("r", True, "p", {"a": "b"}, 1, 9, 2, 86_400_000, True, 3, 4, 5, "and"),), "varies_by_storage_class"
)


CONFIGURED: dict[str, msgspec.Struct] = {
    "cors": BucketCors((CorsRule(("https://a",), ("GET",), ("x-*",), ("etag",), 60, "one"),)),
    "encryption": BucketEncryption("AES256", True, False),
    "lock": BucketLock("GOVERNANCE", 1, 0),
    "ownership": BucketOwnership(),
    "acl": BucketAcl("owner:FULL_CONTROL all:READ"),
    "policy": BucketPolicy(b"{}"),
    "publicaccess": PublicAccessBlock(True, False, True, False),
    "tags": BucketTags({"a": "b"}),
}
USERS: dict[str, msgspec.Struct] = {
    "user": User("ann", 1700, ("readonly",), True),
    "access-key": AccessKey("AK", "ann", b"sealed", 1700, True),
    "named-policy": NamedPolicy("readonly", b"{}", 1700),
    "role": Role("reader", "AROA", 1700, ("ann",), ("readonly",)),
    "session": Session("ASIA", "secret", 1700, 5300, "AK", b"proof", "reader", "AROA", "work", b"{}"),
}


def packed(record: msgspec.Struct) -> tuple[object, bytes, Callable[[bytes], object]]:
    return record, encode(record), lambda raw: msgspec.msgpack.decode(raw, type=type(record))


def mirrored(kept: Kept) -> bytes:
    disk = SimDisk()
    Mirror(disk).save(kept)
    return bytes(disk.read_file(FILE))


def read_mirror(raw: bytes) -> object:
    disk = SimDisk()
    disk.write_file(FILE, raw)
    mirror = Mirror(disk)
    mirror.load()
    return mirror.kept


IDENTITY = identity.Identity(NODE, CLUSTER, 10)
KEPT = Kept(41, 3.0, {"cluster": b"\0" * 8 + b"{}", "map": b"\0" * 8 + b"map"})
JOURNAL = journal_format.Header(CLUSTER, NODE, 7, SALT)
RECORDS: dict[str, tuple[object, bytes]] = {
    "value": (
        Value(3, 8, KEY, HIGH.pack(), b"listing", b"state", b"data"),
        journal_format.encode_value(3, 8, KEY, HIGH.pack(), b"listing", b"state", b"data"),
    ),
    "drop": (Drop(3, 8), journal_format.encode_drop(3, 8)),
    "fence": (Fence(3, 8), journal_format.encode_fence(3, 8)),
    "floor": (Floor(3, LOW.pack()), journal_format.encode_floor(3, LOW.pack())),
    "forget": (Forget(3, LOW.pack(), (KEY,)), journal_format.encode_forget(3, LOW.pack(), [KEY])),
}
PLACE = register_rows.place_of(3, KEY)
((_, STORED_KEY, REGISTER_ROW),) = register_rows.writes_for(PLACE, HELD, register_rows.NOTHING)
FRAGMENT = index.Held(3, Extent(2, 8192, 1234), 99, 1700)

# name -> (what it is, its bytes, how it is read back)
KINDS: dict[str, tuple[object, bytes, Callable[[bytes], object]]] = {
    "identity": (IDENTITY, identity._encode(IDENTITY), lambda raw: identity._parse(raw, "here")),
    "coordinator": (KEPT, mirrored(KEPT), read_mirror),
    "map": (MAP, encode_map(MAP), decode_map),
    "envelope": (HEADER, envelope.encode_header(HEADER), lambda raw: envelope.decode_header(raw)[0]),
    "fragment-row": (FRAGMENT, index.pack(FRAGMENT), index.unpack),
    "register-row": (
        register_rows.unpack(STORED_KEY, REGISTER_ROW or b""),
        REGISTER_ROW or b"",
        lambda raw: register_rows.unpack(STORED_KEY, raw),
    ),
    "object": (STATE, encode(STATE), lambda raw: decode(raw, KeyState)),
    "object-moved": (MOVED, encode(MOVED), lambda raw: decode(raw, KeyState)),
    "event": (EVENT, encode(EVENT), lambda raw: msgspec.msgpack.decode(raw, type=Event)),
    "quota": (QUOTA, encode(QUOTA), lambda raw: msgspec.msgpack.decode(raw, type=BucketQuota)),
    "inventory": (REPORTS, encode(REPORTS), lambda raw: msgspec.msgpack.decode(raw, type=BucketInventory)),
    "notification": (RULES, encode(RULES), lambda raw: msgspec.msgpack.decode(raw, type=BucketNotification)),
    "lifecycle": (LIFECYCLE, encode(LIFECYCLE), lambda raw: msgspec.msgpack.decode(raw, type=BucketLifecycle)),
    "listing": (ListEntry(9, "etag", 1700), encode(ListEntry(9, "etag", 1700)), lambda raw: decode(raw, ListEntry)),
    **{f"config-{name}": packed(record) for name, record in CONFIGURED.items()},
    **{f"identity-{name}": packed(record) for name, record in USERS.items()},
    "journal-header": (JOURNAL, journal_format.encode_header(JOURNAL), journal_format.decode_header),
    "journal-frame": (b"record", b"".join(journal_format.frame(b"record", SALT)), lambda raw: raw[-6:]),
    **{f"journal-{name}": (record, raw, journal_format.decode) for name, (record, raw) in RECORDS.items()},
}


def golden() -> list[tuple[str, str]]:
    lines = (Path(__file__).parent / "disk_v1.txt").read_text().splitlines()
    return [(name, value) for name, value in (line.split() for line in lines if line and not line.startswith("#"))]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_is_written_has_not_changed(name: str) -> None:
    value = KINDS[name][1].hex()
    assert (name, value) in golden(), f"a format changed, or a line is missing:\n{name} {value}"


@pytest.mark.parametrize(("name", "value"), golden())
def test_all_that_was_ever_written_is_read(name: str, value: str) -> None:
    assert KINDS[name][2](bytes.fromhex(value)) == KINDS[name][0]

"""The bytes of wire version 1: if one of these tests fails, releases of before and after cannot talk to each other.

A new message, or a new field at the end of one, comes with a new line in `wire_v1.txt` (the old ones stay: they must
still decode); any other change needs a new wire version.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from objstore.wire.connection import Connection, Kind, Side
from objstore.wire.frames import encode_frame
from objstore.wire.messages import (
    CoDelete,
    CoEntries,
    CoGet,
    CoGrant,
    CoKeepAlive,
    CoPut,
    CoRange,
    CoResult,
    CoRevoke,
    CoWatch,
    ErrorReply,
    FragAbort,
    FragCommit,
    FragDelete,
    FragHead,
    FragList,
    FragListed,
    FragLocate,
    FragLocated,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    FragWrite,
    MapFound,
    MapRead,
    Named,
    NodeStats,
    NodeStatsReply,
    Ok,
    Page,
    PageAsk,
    Ping,
    Pong,
    RecDone,
    RecPull,
    RecPulled,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegForget,
    RegInstall,
    RegPaged,
    RegPages,
    RegPrepare,
    RegPull,
    RegPulled,
    RegRead,
    RegRefused,
    RegScan,
    RegScanned,
    RegStale,
    RegState,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_message,
)

BLOB = bytes(range(16))
KEY = bytes(range(16)) + b"\x01photos/cat.jpg"
BALLOT = bytes(range(16, 32))
FRAGMENT = bytes(range(21))

REQUESTS: list[Request] = [
    Ping(),
    Named("0123456789abcdef", encode_message(Ping())),
    RegRead(3, 8, KEY, with_data=False),
    RegPrepare(3, 8, KEY, BALLOT, with_data=True),
    RegAccept(3, 8, KEY, BALLOT, b"listing", b"state"),
    RegScan(3, 8, BLOB, 1, b"a", b"z", 1000, with_state=True),
    RegPages(BLOB, 1, b"z", 90, [PageAsk(3, 8, b"a", True), PageAsk(4, 8, b"a", False, False)]),
    RegFence([1, 65535], 9),
    RegPull(3, KEY, 1024, ballots_only=True, promises=True),
    RegInstall(3, 8, [KEY], BALLOT, [b"listing"], [b"state"], [4]),
    RegDigests([0, 1]),
    RegDrop([7], 10),
    RegForget(3, 8, BALLOT, [KEY], BALLOT),
    RecPull(3, KEY, 1024, 1),
    RecDone(),
    FragPut(1023, FRAGMENT, backfill=True),
    FragOpen(1023, FRAGMENT, 1 << 40, backfill=True),
    FragWrite(5, 262152),
    FragCommit(5),
    FragAbort(5),
    FragHead(FRAGMENT),
    FragRead(FRAGMENT, 262152, 4096, backfill=True),
    FragLocate(BLOB, 2),
    FragList(1023, FRAGMENT, 100),
    FragVerify(FRAGMENT, 12),
    FragDelete(1023, FRAGMENT * 2, 12),
    NodeStats(changes=True),
    MapRead(),
    CoGet("map"),
    CoRange("nodes/"),
    CoPut("map", b"value", 17, 3),
    CoDelete("map", 3),
    CoGrant(7.5),
    CoKeepAlive(17),
    CoRevoke(17),
    CoWatch("nodes/", 41, 30.0),
]

REPLIES: list[Reply] = [
    Ok(),
    ErrorReply("QuorumLost", "too few answers"),
    Pong("n1", "node", "0123456789abcdef", 1_700_000_000_000, 12_000),
    RegState(BALLOT, b"listing", b"state", BALLOT, True),
    RegAccepted(),
    RegRefused(BALLOT),
    RegStale(9),
    RegScanned([b"name"], BALLOT, [b"listing"], [b"state"], True),
    RegPaged([Page(BALLOT, [b"name"], [b"listing"], True, BALLOT), Page(BALLOT)]),
    RegPulled([KEY], BALLOT, [b"listing"], [b"state"], [4], False, 9, BALLOT, BALLOT),
    RegDigested([1, 2], [3, (1 << 64) - 1]),
    RecPulled([KEY], BALLOT, [b"listing"], [b"state"], [4], True, 9, BALLOT, 2, 1, "n1"),
    FragOpened(5),
    FragLocated([0, 4]),
    FragListed(FRAGMENT, [70000], False),
    NodeStatsReply("0123456789abcdef", "n1", 1 << 40, 1 << 30, 1 << 39, 5, 6, 7, [1], [2], 8, True),
    MapFound(),
    CoEntries(["map"], [b"value"], [41], 42, [17]),
    CoResult(False, 42),
]

FRAMES: dict[str, list[bytes]] = {
    "frame:request": [bytes(b) for b in encode_frame(Kind.REQUEST, 0x0102030405060708, b"body")],
    "frame:reply-with-payload": [bytes(b) for b in encode_frame(Kind.REPLY, 1, b"body", b"payload")],
}


def handshake() -> dict[str, list[bytes]]:
    """Every frame of a handshake with fixed nonces."""
    client = Connection(Side.CLIENT, b"secret", "cluster", b"c" * 32)
    server = Connection(Side.SERVER, b"secret", "cluster", b"s" * 32)
    frames: dict[str, list[bytes]] = {}
    for name, source, target in (("hello", client, server), ("challenge", server, client), ("proof", client, server)):
        frames[f"handshake:{name}"] = sent = [bytes(b) for b in source.take_outgoing()]
        list(target.receive(b"".join(sent)))
    server.refuse("why")
    frames["handshake:refuse"] = [bytes(b) for b in server.take_outgoing()]
    return frames


def current() -> dict[str, str]:
    """What this release writes, by the names of the golden file."""
    messages = {type(message).__name__: encode_message(message).hex() for message in [*REQUESTS, *REPLIES]}
    return messages | {name: b"".join(frame).hex() for name, frame in (FRAMES | handshake()).items()}


def golden() -> list[tuple[str, str]]:
    lines = (Path(__file__).parent / "wire_v1.txt").read_text().splitlines()
    return [(name, value) for name, value in (line.split() for line in lines if line and not line.startswith("#"))]


@pytest.mark.parametrize(("name", "value"), sorted(current().items()))
def test_the_bytes_have_not_changed(name: str, value: str) -> None:
    assert (name, value) in golden(), f"wire bytes changed, or a line is missing:\n{name} {value}"


@pytest.mark.parametrize(("name", "value"), golden())
def test_all_bytes_ever_written_still_decode(name: str, value: str) -> None:
    if ":" in name:
        return  # frames: their bytes are compared, and their reading is tested with the reader
    decode = decode_request if name in {type(request).__name__ for request in REQUESTS} else decode_reply
    assert type(decode(bytes.fromhex(value))).__name__ == name


def test_every_message_has_golden_bytes() -> None:
    assert {type(request) for request in REQUESTS} == set(get_args(Request))
    assert {type(reply) for reply in REPLIES} == set(get_args(Reply))


@pytest.mark.parametrize("message", [*REQUESTS, *REPLIES], ids=lambda message: type(message).__name__)
def test_a_message_decodes_to_what_it_was(message: Request | Reply) -> None:
    decode = decode_request if message in REQUESTS else decode_reply
    assert decode(encode_message(message)) == message


@pytest.mark.parametrize("message", [*REQUESTS, *REPLIES], ids=lambda message: type(message).__name__)
def test_every_field_has_a_value_of_its_own_in_the_golden_bytes(message: msgspec.Struct) -> None:
    """A default would not show that the field is there."""
    for field in msgspec.structs.fields(message):
        if not field.required:
            made = field.default is msgspec.NODEFAULT
            default = field.default_factory() if made else field.default
            assert getattr(message, field.name) != default, field.name

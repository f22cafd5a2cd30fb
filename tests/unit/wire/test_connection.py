"""The handshake and the message stream, without sockets: two connections that are handed each other's bytes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.errors import InvalidRequest, WireError
from objstore.wire.connection import (
    HANDSHAKE_BYTES_MAX,
    NONCE_BYTES,
    Connection,
    Established,
    Event,
    Kind,
    NotUnderstood,
    ReplyReceived,
    RequestReceived,
    Side,
)
from objstore.wire.frames import Buffer, encode_frame
from objstore.wire.messages import FragWrite, Ping, Pong, RegDigests

SECRET = b"a secret of the cluster"


def client(secret: bytes = SECRET, cluster_id: str = "c1", nonce: bytes = b"c" * NONCE_BYTES) -> Connection:
    return Connection(Side.CLIENT, secret, cluster_id, nonce)


def server(secret: bytes = SECRET, cluster_id: str = "c1", nonce: bytes = b"s" * NONCE_BYTES) -> Connection:
    return Connection(Side.SERVER, secret, cluster_id, nonce)


def joined(buffers: Iterable[Buffer]) -> bytes:
    return b"".join(buffers)


def hand_over(source: Connection, target: Connection) -> list[Event]:
    return list(target.receive(joined(source.take_outgoing())))


def opened(one: Connection, other: Connection) -> tuple[list[Event], list[Event]]:
    """Run the handshake of client `one` and server `other`; the events of each."""
    assert hand_over(one, other) == []
    events = hand_over(other, one)
    return events, hand_over(one, other)


def refused(one: Connection, other: Connection) -> tuple[str, str]:
    """Run a handshake that fails; what each side says about it."""
    texts: dict[Connection, str] = {}
    for _ in range(4):
        for source, target in ((one, other), (other, one)):
            try:
                hand_over(source, target)
            except WireError as error:
                texts.setdefault(target, str(error))
    assert not one.is_open and not other.is_open
    return texts[one], texts[other]


def test_a_handshake_opens_both_sides_and_tells_the_cluster() -> None:
    one, other = client(), server()
    assert opened(one, other) == ([Established("c1")], [Established("c1")])
    assert one.is_open and other.is_open


def test_messages_and_payloads_cross_in_both_directions() -> None:
    one, other = client(), server()
    opened(one, other)
    request = FragWrite(stream=3, offset=5)
    assert list(other.receive(joined(one.send_request(7, request, b"bytes")))) == [
        RequestReceived(7, request, b"bytes")
    ]
    assert list(one.receive(joined(other.send_reply(7, Pong("n", "node", "id"))))) == [
        ReplyReceived(7, Pong("n", "node", "id"), b"")
    ]


@pytest.mark.parametrize(("ours", "theirs"), [("", "c1"), ("c1", ""), ("", "")])
def test_a_side_without_a_cluster_id_is_checked_by_the_secret_only(ours: str, theirs: str) -> None:
    one, other = client(cluster_id=ours), server(cluster_id=theirs)
    assert opened(one, other) == ([Established(theirs)], [Established(ours)])
    with pytest.raises(WireError, match="secrets"):
        opened(client(b"wrong", ours), server(cluster_id=theirs))


def test_another_secret_is_refused_and_both_sides_know_why() -> None:
    ours, theirs = refused(client(b"another secret"), server())
    assert ours == "the cluster secrets of the two sides differ: give both the same [cluster] secret"
    assert theirs == f"refused by the other side: {ours}"


def test_another_cluster_is_refused_and_both_sides_know_why() -> None:
    ours, theirs = refused(client(cluster_id="c1"), server(cluster_id="c2"))
    assert theirs.startswith("the client belongs to cluster c1, the server to cluster c2: check the address")
    assert ours == f"refused by the other side: {theirs}"


def test_a_client_without_the_secret_cannot_open_the_server() -> None:
    """Even one that skips its own check of the server."""
    one, other = client(), server()
    hand_over(one, other)
    fake = encode_frame(Kind.PROOF, 0, msgspec.msgpack.encode([b"p" * 32]))
    with pytest.raises(WireError, match="secrets"):
        list(other.receive(joined(fake)))
    assert not other.is_open


def test_a_proof_sent_back_to_its_maker_is_refused() -> None:
    one, other = client(), server()
    hand_over(one, other)
    _, _, proof = msgspec.msgpack.decode(joined(other.take_outgoing())[32:])
    with pytest.raises(WireError, match="secrets"):
        list(other.receive(joined(encode_frame(Kind.PROOF, 0, msgspec.msgpack.encode([proof])))))


def test_a_recorded_proof_does_not_open_a_second_connection() -> None:
    one, other = client(), server()
    hello = joined(one.take_outgoing())
    list(other.receive(hello))
    hand_over(other, one)
    proof = joined(one.take_outgoing())
    assert list(other.receive(proof)) == [Established("c1")]
    second = server(nonce=b"t" * NONCE_BYTES)
    with pytest.raises(WireError, match="secrets"):
        list(second.receive(hello + proof))


def test_another_version_is_refused_by_name_on_both_sides() -> None:
    one, other = client(), server()
    hello = bytearray(joined(one.take_outgoing()))
    hello[2] = 2
    with pytest.raises(WireError, match="the other side speaks wire version 2, this side version 1"):
        list(other.receive(hello))
    with pytest.raises(WireError, match="refused by the other side: the other side speaks wire version 2"):
        hand_over(other, one)


def test_no_request_is_accepted_before_the_handshake() -> None:
    other = server()
    with pytest.raises(WireError, match="out of turn"):
        list(other.receive(joined(encode_frame(Kind.REQUEST, 1, b"\x91\xa4Ping"))))


@pytest.mark.parametrize(("body", "payload"), [(bytes(HANDSHAKE_BYTES_MAX + 1), b""), (b"", b"p")])
def test_before_the_handshake_only_short_frames_are_accepted(body: bytes, payload: bytes) -> None:
    with pytest.raises(WireError, match="announces"):
        list(server().receive(joined(encode_frame(Kind.HELLO, 0, body, payload))))


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.CHALLENGE, Kind.PROOF, Kind.REPLY, 99])
def test_a_frame_out_of_turn_ends_the_connection(kind: int) -> None:
    one, other = client(), server()
    opened(one, other)
    with pytest.raises(WireError, match=f"kind {int(kind)} came out of turn"):
        list(other.receive(joined(encode_frame(kind, 0, b"\x91\xa2Ok"))))


def test_events_before_a_defect_are_delivered_and_none_after_it() -> None:
    one, other = client(), server()
    opened(one, other)
    good = joined(one.send_request(1, Ping()))
    bad = bytearray(good)
    bad[-1] ^= 1
    seen = []
    with pytest.raises(WireError, match="checksum"):
        for event in other.receive(good + bad + good):
            seen.append(event)
    assert seen == [RequestReceived(1, Ping(), b"")]
    with pytest.raises(WireError, match="failed already"):
        list(other.receive(good))


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91\xa6Future", b"\x94\xa4Pong\xa1\xff\xa0\xa0", b"\x91\xa4Ping" + b"\x00"]
)
def test_a_message_of_another_release_does_not_end_the_connection(body: bytes) -> None:
    """Unknown type, wrong field, text that is not UTF-8, bytes left over."""
    one, other = client(), server()
    opened(one, other)
    for target, kind in ((other, Kind.REQUEST), (one, Kind.REPLY)):
        [event] = target.receive(joined(encode_frame(kind, 5, body)))
        assert isinstance(event, NotUnderstood) and event.id == 5
        assert target.is_open


def test_a_refusal_cannot_steer_a_terminal() -> None:
    one, other = client(), server()
    opened(one, other)
    other.refuse("bye\x1b[2J\nnow")
    with pytest.raises(WireError, match=r"refused by the other side: bye\?\[2J\?now"):
        hand_over(other, one)


def test_a_long_refusal_is_cut_and_not_refused_itself() -> None:
    one, other = client(), server()
    other.refuse("é" * 100_000)
    with pytest.raises(WireError, match="refused by the other side: éé"):
        hand_over(other, one)


def test_an_empty_secret_is_no_secret() -> None:
    with pytest.raises(InvalidRequest, match="secret is empty"):
        client(b"")


def recorded_stream() -> tuple[bytes, list[Event]]:
    """All that a server receives in one connection, and the events of it."""
    one, other = client(), server()
    stream = bytearray(joined(one.take_outgoing()))
    events: list[Event] = list(other.receive(stream))
    hand_over(other, one)
    rest = one.take_outgoing()
    rest += one.send_request(1, Ping())
    rest += one.send_request(2, FragWrite(1, 0), bytes(range(256)) * 1000)
    rest += one.send_request(3, RegDigests(list(range(500))))
    rest += one.send_request(4, FragWrite(1, 9), b"short")
    events += other.receive(joined(rest))
    return bytes(stream + joined(rest)), events


STREAM, EVENTS = recorded_stream()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30).map(sorted))
def test_any_split_of_the_stream_gives_the_same_events(cuts: list[int]) -> None:
    other = server()
    pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
    assert [event for piece in pieces for event in other.receive(piece)] == EVENTS
    assert len(EVENTS) == 5 and not other.mid_frame


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_garbage_raises_wire_error_and_nothing_else(garbage: bytes, is_open: bool, framed: bool) -> None:
    one, other = client(), server()
    if is_open:
        opened(one, other)
    data = joined(encode_frame(garbage[0] % 8, 1, garbage[1:])) if framed and garbage else garbage
    for side in (one, other):
        try:
            assert all(isinstance(event, NotUnderstood) for event in side.receive(data))
        except WireError:
            assert side.is_broken


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_one_damaged_byte_ends_the_events_with_an_error(position: int, flip: int) -> None:
    damaged = bytearray(STREAM)
    damaged[position] ^= flip
    seen = []
    other = server()
    with pytest.raises(WireError):
        for event in other.receive(damaged):
            seen.append(event)
    assert seen == EVENTS[: len(seen)] and len(seen) < len(EVENTS)

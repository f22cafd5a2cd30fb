"""One connection without its socket: the handshake, then requests and replies. Bytes in, events out.

    client                                     server
    HELLO      nonce, cluster id        ->
                                        <-     CHALLENGE  nonce, cluster id, proof
    PROOF      proof                    ->                                            now both are open
    REQUEST    id, message, payload     ->
                                        <-     REPLY      id, message, payload        in any order

A proof is HMAC-SHA256, keyed with the cluster secret, over the role, both nonces and both cluster ids; so each side
knows that the other has the secret, and neither can be answered with its own words. REFUSE (a sentence) may come at
any time and ends the connection. A side that does not know its cluster id yet says "" and checks the secret only.

What this is not: encryption, or integrity against someone who can alter or redirect traffic. The network between
the processes of a cluster has to be private.

Invariants: nothing but handshake frames of at most HANDSHAKE_BYTES_MAX is accepted before the other side has proved
that it has the secret; after a WireError no further event comes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from enum import Enum, IntEnum
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from objstore.model.errors import InvalidRequest, WireError
from objstore.wire.frames import BODY_BYTES_MAX, PAYLOAD_BYTES_MAX, Buffer, Frame, FrameReader, encode_frame
from objstore.wire.messages import Reply, Request, decode_reply, decode_request, encode_message

NONCE_BYTES: Final = 32
HANDSHAKE_BYTES_MAX: Final = 4096
REFUSAL_CHARS_MAX: Final = 500
_CONTEXT: Final = "objstore wire 1"


class Kind(IntEnum):
    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    REQUEST = 4
    REPLY = 5
    REFUSE = 6


class Side(Enum):
    CLIENT = "client"
    SERVER = "server"


class _State(Enum):
    WAIT_HELLO = "hello"
    WAIT_CHALLENGE = "challenge"
    WAIT_PROOF = "proof"
    OPEN = "open"
    BROKEN = "broken"


_Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Proof = Annotated[bytes, Meta(min_length=32, max_length=32)]
_ClusterId = Annotated[str, Meta(max_length=128)]


class _Hello(msgspec.Struct, frozen=True, array_like=True):
    nonce: _Nonce
    cluster_id: _ClusterId


class _Challenge(msgspec.Struct, frozen=True, array_like=True):
    nonce: _Nonce
    cluster_id: _ClusterId
    proof: _Proof


class _ProofMessage(msgspec.Struct, frozen=True, array_like=True):
    proof: _Proof


class _Refuse(msgspec.Struct, frozen=True, array_like=True):
    text: Annotated[str, Meta(max_length=2 * REFUSAL_CHARS_MAX)]


class Established(msgspec.Struct, frozen=True):
    """Both sides have proved that they know the secret. `cluster_id` is the other side's, or ""."""

    cluster_id: str


class RequestReceived(msgspec.Struct, frozen=True):
    id: int
    request: Request
    payload: bytes | memoryview


class ReplyReceived(msgspec.Struct, frozen=True):
    id: int
    reply: Reply
    payload: bytes | memoryview


class NotUnderstood(msgspec.Struct, frozen=True):
    """A whole frame whose body is not a message of this release. The connection goes on."""

    id: int
    reason: str


Event: TypeAlias = Established | RequestReceived | ReplyReceived | NotUnderstood

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError)  # msgspec lets the second one through
_T = TypeVar("_T", bound=msgspec.Struct)


class Connection:
    """The state of one side. `nonce`: NONCE_BYTES of fresh random bytes.

    Feed it with `buffer` and `filled` (no copy) or with `receive`; after each, and at the start, send what
    `take_outgoing` gives.
    """

    def __init__(self, side: Side, secret: bytes, cluster_id: str, nonce: bytes) -> None:
        assert len(nonce) == NONCE_BYTES
        if not secret:
            raise InvalidRequest("the cluster secret is empty: set [cluster] secret")
        self._side = side
        self._secret = secret
        self._cluster_id = cluster_id
        self._nonce = nonce
        self._their_nonce = b""
        self._their_cluster_id = ""
        self._outgoing: list[Buffer] = []
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX, 0)
        self._decode: Callable[[memoryview], Any]
        self._received: Callable[[int, Any, bytes | memoryview], Event]
        if side is Side.CLIENT:
            self._decode, self._received, self._message_kind = decode_reply, ReplyReceived, Kind.REPLY
            self._send_handshake(Kind.HELLO, _Hello(nonce, cluster_id))
            self._state = _State.WAIT_CHALLENGE
        else:
            self._decode, self._received, self._message_kind = decode_request, RequestReceived, Kind.REQUEST
            self._state = _State.WAIT_HELLO

    @property
    def is_open(self) -> bool:
        return self._state is _State.OPEN

    @property
    def is_broken(self) -> bool:
        return self._state is _State.BROKEN

    @property
    def mid_frame(self) -> bool:
        """The stream must not end here."""
        return self._reader.mid_frame

    def take_outgoing(self) -> list[Buffer]:
        """Handshake and refusal bytes to send now, once."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def send_request(self, id: int, request: Request, payload: Buffer = b"") -> list[Buffer]:
        """The bytes of a request; InvalidRequest if it is over a limit. The payload is referred to, not copied."""
        assert self._side is Side.CLIENT and self._state is _State.OPEN
        return encode_frame(Kind.REQUEST, id, encode_message(request), payload)

    def send_reply(self, id: int, reply: Reply, payload: Buffer = b"") -> list[Buffer]:
        """As `send_request`. It may be called when the connection is already broken: nobody will read it."""
        assert self._side is Side.SERVER and self._state in (_State.OPEN, _State.BROKEN)
        return encode_frame(Kind.REPLY, id, encode_message(reply), payload)

    def buffer(self) -> memoryview:
        """Where the next received bytes go; never empty."""
        return self._reader.buffer()

    def filled(self, count: int) -> Iterator[Event]:
        """The events that `count` new bytes in `buffer()` complete, lazily: those before a defect come before its
        WireError. Exhaust it before the next call."""
        if self.is_broken:
            raise WireError("this connection has failed already")
        decode, received, message_kind = self._decode, self._received, self._message_kind
        try:
            for frame in self._reader.filled(count):
                if frame.kind != message_kind or self._state is not _State.OPEN:
                    event = self._control(frame)
                    if event is not None:
                        yield event
                    continue
                try:
                    message = decode(frame.body)
                except _UNDECODABLE as error:
                    yield NotUnderstood(frame.id, f"not a message that this release knows: {error}")
                    continue
                yield received(frame.id, message, frame.payload)
        except WireError as error:
            if not self.is_broken:
                self.refuse(str(error))
            raise

    def receive(self, data: Buffer) -> Iterator[Event]:
        """As `filled`, for bytes that lie elsewhere."""
        rest = memoryview(data)
        while rest:
            buffer = self.buffer()
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            rest = rest[count:]
            yield from self.filled(count)

    def refuse(self, reason: str) -> None:
        """Tell the other side why this one ends the connection."""
        self._state = _State.BROKEN
        self._send_handshake(Kind.REFUSE, _Refuse(reason[:REFUSAL_CHARS_MAX]))

    def _send_handshake(self, kind: Kind, message: msgspec.Struct) -> None:
        self._outgoing += encode_frame(kind, 0, msgspec.msgpack.encode(message))

    def _control(self, frame: Frame) -> Event | None:
        """Every frame that is not a message in an open connection."""
        state = self._state
        if frame.kind == Kind.REFUSE:
            self._state = _State.BROKEN
            raise WireError(f"refused by the other side: {_printable(_parse(frame, _Refuse).text)}")
        if state is _State.WAIT_HELLO and frame.kind == Kind.HELLO:
            hello = _parse(frame, _Hello)
            self._meet(hello.nonce, hello.cluster_id)
            proof = self._proof(Side.SERVER)
            self._send_handshake(Kind.CHALLENGE, _Challenge(self._nonce, self._cluster_id, proof))
            self._state = _State.WAIT_PROOF
            return None
        if state is _State.WAIT_CHALLENGE and frame.kind == Kind.CHALLENGE:
            challenge = _parse(frame, _Challenge)
            self._meet(challenge.nonce, challenge.cluster_id)
            self._check_proof(challenge.proof, Side.SERVER)
            self._send_handshake(Kind.PROOF, _ProofMessage(self._proof(Side.CLIENT)))
            return self._open()
        if state is _State.WAIT_PROOF and frame.kind == Kind.PROOF:
            self._check_proof(_parse(frame, _ProofMessage).proof, Side.CLIENT)
            return self._open()
        raise WireError(f"a frame of kind {frame.kind} came out of turn")

    def _meet(self, nonce: bytes, cluster_id: str) -> None:
        self._their_nonce, self._their_cluster_id = nonce, cluster_id
        if cluster_id and self._cluster_id and cluster_id != self._cluster_id:
            client, server = (
                (self._cluster_id, cluster_id) if self._side is Side.CLIENT else (cluster_id, self._cluster_id)
            )
            raise WireError(
                f"the {Side.CLIENT.value} belongs to cluster {_printable(client)}, the {Side.SERVER.value} to cluster "
                f"{_printable(server)}: check the address, or the data folder if it was moved between clusters"
            )

    def _proof(self, side: Side) -> bytes:
        """What `side` has to show."""
        if self._side is Side.CLIENT:
            parts = (self._nonce, self._their_nonce, self._cluster_id, self._their_cluster_id)
        else:
            parts = (self._their_nonce, self._nonce, self._their_cluster_id, self._cluster_id)
        return hmac.digest(self._secret, msgspec.msgpack.encode((_CONTEXT, side.value, *parts)), "sha256")

    def _check_proof(self, proof: bytes, side: Side) -> None:
        if not hmac.compare_digest(proof, self._proof(side)):
            raise WireError("the cluster secrets of the two sides differ: give both the same [cluster] secret")

    def _open(self) -> Established:
        self._state = _State.OPEN
        self._reader.body_max, self._reader.payload_max = BODY_BYTES_MAX, PAYLOAD_BYTES_MAX
        return Established(self._their_cluster_id)


def _parse(frame: Frame, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(frame.body, type=kind)
    except _UNDECODABLE as error:
        raise WireError(f"a handshake frame is malformed: {error}") from error


def _printable(text: str) -> str:
    """The other side may be anyone: nothing that it says may steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)

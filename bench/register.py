"""One round on a register: the machines of proposer and acceptors without network or disk, beside the loopback.

What a write needs of CPU before any byte is sent: prepare and accept of three acceptors in memory. A real round waits
for two round trips, so the limit is half of what the loopback can do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from bench.figures import Figure, parser, show
from objstore.bench import limits
from objstore.model.clock import ZERO, Ballot
from objstore.model.ids import NodeId
from objstore.model.records import Register, Value, encode
from objstore.register import acceptor
from objstore.register.change import Decision
from objstore.register.proposer import Done, ReadRound, Send, Target, WriteRound
from objstore.wire.messages import RegAccept, RegAccepted, RegPrepare, RegRefused, RegState, Reply

NODES = tuple(NodeId(f"{number:016x}") for number in range(3))
TARGET = Target(b"k" * 40, 5, 2, (NODES,))
VALUE = Value(b"listing" * 8, encode(Register(b"state" * 20)), b"")


class Stored(NamedTuple):
    state: acceptor.AcceptorState = acceptor.EMPTY
    listing: bytes = b""
    register: bytes = b""


class Cluster:
    """Acceptors in memory."""

    def __init__(self) -> None:
        self._stored = dict.fromkeys(NODES, Stored())

    def answer(self, send: Send) -> Reply:
        stored, request = self._stored[send.node], send.request
        if isinstance(request, RegPrepare):
            state, granted = acceptor.prepare(stored.state, Ballot.unpack(request.ballot))
            if not granted:
                return RegRefused(acceptor.refusal(stored.state).pack())
            self._stored[send.node] = stored._replace(state=state)
        elif isinstance(request, RegAccept):
            state, granted = acceptor.accept(stored.state, Ballot.unpack(request.ballot))
            if not granted:
                return RegRefused(acceptor.refusal(stored.state).pack())
            self._stored[send.node] = Stored(state, request.listing, request.state)
            return RegAccepted()
        return RegState(stored.state.accepted.pack(), stored.listing, stored.register)

    def run(self, machine: WriteRound | ReadRound) -> Done:
        sends = machine.start()
        while sends and machine.outcome is None:
            following: list[Send] = []
            for send in sends:
                following += machine.receive(send.node, self.answer(send), b"")
            sends = following
        assert isinstance(machine.outcome, Done), machine.outcome
        return machine.outcome


def measure(seconds: float) -> list[Figure]:
    cluster = Cluster()
    time_ = 0

    def write() -> None:
        nonlocal time_
        time_ += 1
        machine = WriteRound(TARGET, Ballot(time_, 1), lambda _: Decision(VALUE), first=True)
        assert cluster.run(machine).value == VALUE

    def read() -> None:
        machine = ReadRound(TARGET, with_data=True, preferred=(True, True, True))
        assert cluster.run(machine).value == VALUE

    assert Ballot(1, 1) > ZERO
    trips = limits.loopback(seconds)
    writes = limits.rate(write, 1, seconds, time.thread_time)
    reads = limits.rate(read, 1, seconds, time.thread_time)
    return [
        Figure("write: prepare, accept", writes, "rounds/s", "loopback, two round trips", trips / 2),
        Figure("read: one round", reads, "rounds/s", "loopback round trips", trips),
    ]


def main(words: Sequence[str] | None = None) -> int:
    arguments = parser(__doc__).parse_args(words)
    show("register rounds, three acceptors in memory, one core", measure(arguments.seconds), as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

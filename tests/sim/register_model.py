"""The acceptor of one register as a storage node runs it, with its disk: what was decided, what is durable.

The rules are the real ones (objstore/register/acceptor.py); around them is what objstore/node/registers.py does:
decisions rest on what is queued, answers that promise something wait for the commit, refusals do not, reads report
durable state only, and a crash keeps the commits so far and perhaps some of those under way.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import msgspec

from objstore.model.clock import ZERO, Ballot
from objstore.model.records import ABSENT, Value
from objstore.register import acceptor
from objstore.register.change import body_of
from objstore.register.forgetting import Look
from objstore.wire.messages import (
    RegAccept,
    RegAccepted,
    RegPrepare,
    RegRead,
    RegRefused,
    RegStale,
    RegState,
    Reply,
    Request,
)

Answer = Callable[[Reply | None, bytes], None]


class Held(NamedTuple):
    """`state` and `value` of the register, and the fence and the floor of its partition."""

    state: acceptor.AcceptorState
    value: Value
    fence: int
    floor: Ballot = ZERO

    @property
    def look(self) -> Look:
        """As the node tells it to leaders."""
        accepted, promised = self.state.accepted.pack(), self.state.promised.pack()
        there = self.state != acceptor.EMPTY
        return Look({KEY: (accepted, promised)} if there else {}, self.fence, self.floor.pack())

    def brief(self) -> str:
        promised, accepted = (f"{ballot.time:x}.{ballot.proposer}" for ballot in self.state)
        body = body_of(self.value).hex() or "-"
        floor = f"{self.floor.time:x}.{self.floor.proposer}"
        return f"{body} at {accepted}, promised {promised}, fence {self.fence}, floor {floor}"


def brief(message: Request | Reply) -> str:
    """A message for people."""
    words = [type(message).__name__]
    for name in ("tag", "ballot", "accepted"):
        value = getattr(message, name, None)
        if isinstance(value, bytes):
            ballot = Ballot.unpack(value)
            words.append(f"{name} {ballot.time:x}.{ballot.proposer}")
        elif value is not None:
            words.append(f"{name} {value}")
    if state := getattr(message, "state", b""):
        words.append(body_of(Value(b"", state, b"")).hex() or "-")
    return " ".join(words)


NOTHING = Held(acceptor.EMPTY, ABSENT, 0)
KEY = bytes(17) + b"list"


class Ledger:
    """What holds at every acceptor whatever is lost; kept apart, so that no schedule has to show the damage."""

    def __init__(self) -> None:
        self.wrong = ""
        self._values: dict[Ballot, Value] = {}

    def taken(self, before: Held, ballot: Ballot, value: Value) -> None:
        if ballot < before.state.promised:
            self.wrong = self.wrong or f"a promise was broken: {ballot} was taken after {before.state.promised}"
        if self._values.setdefault(ballot, value) != value:
            self.wrong = self.wrong or f"two values have the ballot {ballot}: {value} and {self._values[ballot]}"


class Acceptor:
    def __init__(self, *, lazy: bool, ledger: Ledger, bug: str = "") -> None:
        self.held = self.durable = NOTHING
        self._ledger = ledger
        self._lazy = lazy  # commits are steps of their own
        self.full = False  # its disk
        self._bug = bug
        self._queue: list[tuple[Held, Answer, Reply | None, bytes]] = []

    def handle(self, request: Request, answer: Answer) -> None:
        held = self.held
        if request.tag < held.fence:  # type: ignore[union-attr]
            return answer(RegStale(held.fence), b"")
        match request:
            case RegRead():
                if self._joins(request.tag):  # an answer under a joint tag waits until the fence is durable
                    return self._put(held._replace(fence=request.tag), answer, *self._report(held, request.with_data))
                seen = held if self._bug == "a read reports what is not durable" else self.durable
                return answer(*self._report(seen, request.with_data))
            case RegPrepare():
                state, granted = acceptor.prepare(held.state, Ballot.unpack(request.ballot), held.floor)
                if granted:
                    fence = request.tag if self._joins(request.tag) else held.fence
                    after = held._replace(state=state, fence=fence)
                    reply, data = self._report(held, request.with_data)
                    if self.full and self._bug != "a lack of room is told too late":
                        reply = msgspec.structs.replace(reply, full=True)
                    return self._put(after, answer, reply, data)
            case RegAccept():
                raise AssertionError("accepts carry their data: use `accept`")
        return answer(RegRefused(acceptor.refusal(held.state, held.floor).pack()), b"")

    def _joins(self, tag: int) -> bool:
        fences = self._bug != "a joint round fences nothing"
        return fences and acceptor.is_joint(tag) and tag > min(self.held.fence, self.durable.fence)

    def has_no_room(self, request: RegAccept, data: bytes) -> bool:
        """For a value that takes some, unless it said so when it promised its ballot."""
        if not self.full or not (request.listing or data):
            return False
        if self._bug in ("a full replica refuses what it promised", "a lack of room is told too late"):
            return True
        return self.held.state.promised != Ballot.unpack(request.ballot)

    def _report(self, held: Held, with_data: bool) -> tuple[RegState, bytes]:
        accepted, value = held.state.accepted, held.value
        if accepted == ZERO:
            floor = ZERO if self._bug == "an absent register reports no floor" else held.floor
            return RegState(ZERO.pack(), b"", b"", floor.pack()), b""
        return RegState(accepted.pack(), value.listing, value.state), value.data if with_data else b""

    def accept(self, request: RegAccept, data: bytes, answer: Answer) -> None:
        held = self.held
        if request.tag < held.fence:
            return answer(RegStale(held.fence), b"")
        ballot = Ballot.unpack(request.ballot)
        state, granted = acceptor.accept(held.state, ballot, held.floor)
        if not granted:
            return answer(RegRefused(acceptor.refusal(held.state, held.floor).pack()), b"")
        if state is not held.state:
            held = self._taken(held, state, Value(request.listing, request.state, data))
        return self._put(held, answer, RegAccepted(), b"")

    def install(self, tag: int, ballot: Ballot, value: Value, answer: Answer) -> None:
        """RegInstall, under the joint tag of the layout change it belongs to."""
        held = self.held
        if tag < held.fence and self._bug != "an install carries no tag":
            return answer(RegStale(held.fence), b"")
        if self._bug == "an install ignores promises":
            taken = ballot > held.state.accepted
            state = acceptor.AcceptorState(max(held.state.promised, ballot), ballot)
        else:
            state, taken = acceptor.install(held.state, ballot, held.floor)
        return self._put(self._taken(held, state, value) if taken else held, answer, RegAccepted(), b"")

    def _taken(self, held: Held, state: acceptor.AcceptorState, value: Value) -> Held:
        self._ledger.taken(held, state.accepted, value)
        return held._replace(state=state, value=value)

    def forget(self, tag: int, floor: Ballot, ballot: Ballot | None, answer: Answer) -> None:
        """RegForget; `ballot` None: without a key."""
        held = self.held
        if tag < held.fence:
            return answer(RegStale(held.fence), b"")
        held = held._replace(floor=max(held.floor, floor))
        if ballot is not None and not held.value.listing and not body_of(held.value):
            state = held.state
            if self._bug == "a forgotten promise is lost":
                state = acceptor.AcceptorState(state.accepted, state.accepted)
            if acceptor.may_forget(state, ballot, held.floor):
                left = ZERO if self._bug == "a register is forgotten without a floor" else held.floor
                held = held._replace(state=acceptor.EMPTY, value=ABSENT, floor=left)
        return self._put(held, answer, None, b"")

    def fence(self, tag: int, answer: Answer) -> None:
        held = self.held
        self._put(held._replace(fence=max(held.fence, tag)), answer, None, b"")

    def drop(self, tag: int, answer: Answer) -> None:
        held = self.held
        self._put(Held(acceptor.EMPTY, ABSENT, tag) if held.fence < tag else held, answer, None, b"")

    def _put(self, held: Held, answer: Answer, reply: Reply | None, payload: bytes) -> None:
        self.held = held
        if not self._lazy:
            self.durable = held
            answer(reply, payload)
            return
        if self._bug == "answers before it is durable":
            answer(reply, payload)
            answer = _nobody
        self._queue.append((held, answer, reply, payload))

    # --- the disk ---

    @property
    def is_behind(self) -> bool:
        return bool(self._queue)

    def commit(self) -> None:
        """Everything queued becomes durable at once, and is answered."""
        queue, self._queue = self._queue, []
        if queue:
            self.durable = queue[-1][0]
        for _, answer, reply, payload in queue:
            answer(reply, payload)

    def crash(self, random: Random) -> None:
        """Power loss and restart: what was queued is kept up to some point, and nobody is answered."""
        queue, self._queue = self._queue, []
        kept = random.randint(0, len(queue))
        if kept:
            self.durable = queue[kept - 1][0]
        self.held = self.durable


def _nobody(reply: Reply | None, payload: bytes) -> None:
    pass

"""Bugs in the consensus of one register (objstore/register) and in its shell (objstore/engine/registers.py)."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

CHANGE = "objstore.register.change"
PROPOSER = "objstore.register.proposer"
ACCEPTOR = "objstore.register.acceptor"
QUORUM = "objstore.register.quorum"
SHELL = "objstore.engine.registers"

CANARIES = (
    Canary(
        "no operation id",
        CHANGE,
        (Edit("if record.op == op:", "if record.op == op and first_accept is None:"),),
        "explorer",
        "a retry does not look whether its first try took effect",
        limit=500,
        quick=True,
    ),
    Canary(
        "pruned result unnoticed",
        CHANGE,
        (
            Edit(
                "return kept, max([register.ops_floor, *(r.ballot_time for r in dropped)])",
                "return kept, register.ops_floor",
            ),
        ),
        "ambush forgotten",
        "results of operations are pruned, and the floor that tells a late retry so is not raised",
        limit=50,
        quick=True,
    ),
    Canary(
        "read without write-back",
        PROPOSER,
        (
            Edit(
                "if agreed.met and (top == ZERO or best.has_data or not self._with_data):",
                "if top == ZERO or best.has_data or not self._with_data:",
            ),
        ),
        "explorer",
        "a read returns the highest value of its majority without making sure that a majority has it",
        limit=2000,
        quick=True,
    ),
    Canary(
        "adopt any value",
        PROPOSER,
        (
            Edit(
                "value = next(reply.value for reply in self._replies.values() if reply.ballot == top)",
                "value = next(reply.value for reply in self._replies.values() if reply.ballot != ZERO or top == ZERO)",
            ),
        ),
        "explorer",
        "a write round builds on the first value it hears of instead of the one with the highest ballot",
        limit=500,
        quick=True,
    ),
    Canary(
        "shortcut after an accept",
        PROPOSER,
        (Edit("if chosen.met and self._first:", "if chosen.met:"),),
        "ambush withdrawn",
        "INV-3: a retry that changes nothing rests on an agreeing majority though its own accept may still win",
        limit=60,
    ),
    Canary(
        "refused at an unconfirmed value",
        PROPOSER,
        (Edit("if chosen.met and self._first:", "if self._first:"),),
        "explorer",
        "a condition is refused because of a value that only one acceptor has",
        limit=20_000,
    ),
    Canary(
        "install ignores promises",
        ACCEPTOR,
        (
            Edit(
                "if ballot >= state.promised and ballot > _past(state, floor):\n"
                "        return AcceptorState(ballot, ballot), True",
                "if ballot > _past(state, floor):\n"
                "        return AcceptorState(max(ballot, state.promised), ballot), True",
            ),
            Edit(
                "return install(state, ballot, floor)",
                "return (AcceptorState(ballot, ballot), True)"
                " if ballot >= state.promised and ballot > _past(state, floor) else (state, False)",
            ),
        ),
        "pytest tests/unit/node/test_registers.py",
        "a value that is copied at a layout change overrides what the acceptor promised to a rival",
        limit=1,
    ),
    Canary(
        "accept below a promise",
        ACCEPTOR,
        (
            Edit(
                "return install(state, ballot, floor)",
                "return (AcceptorState(max(ballot, state.promised), ballot), True)"
                " if ballot > _past(state, floor) else (state, False)",
            ),
        ),
        "explorer",
        "an accept is taken although a higher ballot was promised",
        limit=500,
        quick=True,
    ),
    Canary(
        "absent without a floor",
        PROPOSER,
        (
            Edit(
                "floor = Ballot.unpack(max(reply.floor for reply in replies))",
                "floor = min(ZERO, *(Ballot.unpack(reply.floor) for reply in replies))",
            ),
        ),
        "explorer",
        "INV-11: a register that was forgotten looks as if nothing had ever happened to it",
        limit=20_000,
    ),
    Canary(
        "promise forgotten with a tombstone",
        ACCEPTOR,
        (Edit("ballot == state.accepted and max(state) <= floor", "ballot == state.accepted <= floor"),),
        "pytest tests/unit/register/test_forgetting.py",
        "INV-11: a tombstone is forgotten though the acceptor promised a ballot above the floor",
        limit=1,
    ),
    Canary(
        "floor ignored",
        ACCEPTOR,
        (Edit("return floor if state.accepted == ZERO else state.accepted", "return state.accepted"),),
        "explorer",
        "INV-11: an absent register takes accepts from before it was forgotten",
        limit=20_000,
    ),
    Canary(
        "majority is half",
        QUORUM,
        (
            Edit(
                "return all([len(self._good.intersection(one)) > len(one) // 2 for one in self._sets])",
                "return all([len(self._good.intersection(one)) >= len(one) // 2 for one in self._sets])",
            ),
        ),
        "explorer",
        "off by one: half of the acceptors, rounded down, count as a majority",
        limit=500,
        quick=True,
    ),
    Canary(
        "joint view asks one set",
        QUORUM,
        (
            Edit(
                "return all([len(self._good.intersection(one)) > len(one) // 2 for one in self._sets])",
                "return all([len(self._good.intersection(one)) > len(one) // 2 for one in self._sets[:1]])",
            ),
        ),
        "explorer",
        "while two layouts are joint, a majority of the old owners alone is enough",
        limit=5000,
    ),
    Canary(
        "retry with a new id",
        SHELL,
        (
            Edit(
                "lambda value, ballot, first_accept: apply(value, change, op, ballot, first_accept, born),",
                "lambda value, ballot, first_accept: apply("
                "value, change, op if first_accept is None else self._random.bytes(16), ballot, first_accept, born),",
            ),
        ),
        "ambush counters",
        "each try of an operation gets its own id, so that none finds the result of another",
        limit=30,
        quick=True,
    ),
    Canary(
        "clock does not observe",
        SHELL,
        (Edit("self._ballots.observe(machine.highest)", "pass"),),
        "ambush clocks",
        "a proposer whose clock lags never learns of the higher ballots that it meets",
        limit=20,
        quick=True,
    ),
    Canary(
        "stale view",
        SHELL,
        (
            Edit(
                "view = topology.meta_view(partition)",
                "view = self.__dict__.setdefault('_views', {}).setdefault(partition, topology.meta_view(partition))",
            ),
        ),
        "ambush split",
        "INV-1: a view is pinned not for one round but for ever, and its owners are asked beyond a layout change",
        limit=20,
    ),
)

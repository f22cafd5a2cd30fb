"""Shell around the pure rounds of objstore/register: sends, waits, backs off, gives up in time.

Every operation ends within OPERATION_TIMEOUT_S: with its result, with the refusal of a condition at a value
that is known to be chosen, or with Unavailable. A lost race is retried, never reported as a condition (P2).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from objstore.engine.listing import LOST_PAUSE_S, BucketScan
from objstore.engine.peers import Peers
from objstore.model import limits
from objstore.model.clock import Ballot, BallotClock
from objstore.model.errors import GivenUp, InsufficientStorage, ObjstoreError, QuorumLost
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import RegisterKey, Space, Value
from objstore.placement.topology import Topology
from objstore.ports import Clock, Random
from objstore.register.change import Change, Decision, apply
from objstore.register.proposer import Done, ReadRound, Retry, Send, Target, WriteRound
from objstore.register.quorum import members
from objstore.wire.messages import Reply

HEDGE_S = 0.05  # the rest of the replicas is asked when a majority takes longer, and
HEDGE_USUAL = 3.0  # longer than so many usual rounds, as more questions are no help to a loaded cluster;
HEDGE_MAX_S = 0.5  # but not longer than this
_LEARNING = 0.05  # weight of one round in what is usual
BACKOFF_S = 0.004  # mean first pause after a lost race, doubled per loss
BACKOFF_MAX_S = 0.25
TURN_S = 1.0  # how long a write waits for those of this process that came before it; then it races with them

Decide: TypeAlias = Callable[[Value, Ballot, int | None], Decision]
"""(highest value, this round's ballot, ballot time of the operation's first accept) -> Decision"""


class _Turn:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0  # who has it, and who waits


class Registers:
    def __init__(self, peers: Peers, clock: Clock, random: Random) -> None:
        self._peers = peers
        self._clock = clock
        self._random = random
        self._ballots = BallotClock(int.from_bytes(random.bytes(8), "big") | 1)
        self._ids_ms = 0
        self._usual_s: dict[type, float] = {ReadRound: 0.0, WriteRound: 0.0}
        self._turns: dict[RegisterKey, _Turn] = {}  # of keys that are being written here

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value:
        """The value as chosen at some moment between call and return (linearizable).

        Without `with_data` the result's data may be empty. Raises QuorumLost when no majority answers in time.
        """
        deadline = self._clock.monotonic() + limits.OPERATION_TIMEOUT_S
        attempt = 0
        while True:
            topology = self._peers.topology
            target = self._target(key)
            machine = ReadRound(target, with_data=with_data, preferred=self._which_are_up(target))
            outcome = await self._read_once(machine, deadline)
            if isinstance(outcome, Done):
                return outcome.value
            if outcome is Retry.CONTENDED:
                # a writer is between its rounds: settle it by writing again what is there
                done = await self._write(key, lambda value, *_: Decision(value, keep_data=True), deadline)
                return done.value
            attempt += 1
            await self._pause(outcome, attempt, deadline, key, topology)

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes:
        """Apply `change` exactly once; returns its result. `op`: 16 bytes, the same for all retries.

        born: when the oldest id was made that the change names (ballot time); GivenUp if garbage collection has
        given such ids up here. above: ballots will be above this time.

        Raises what `change` raised (at a chosen value), InsufficientStorage when the replicas are full, or
        QuorumLost: then it may or may not have happened. (So it may after an InsufficientStorage that says so.)
        """
        op = op or self._random.bytes(16)
        self._ballots.observe(Ballot(max(above, born or 0), 0))
        done = await self._write(
            key,
            lambda value, ballot, first_accept: apply(value, change, op, ballot, first_accept, born),
            self._clock.monotonic() + limits.OPERATION_TIMEOUT_S,
        )
        if isinstance(done.error, GivenUp):
            self._ids_ms = max(self._ids_ms, (done.error.floor >> 16) + 1)
        if done.error is not None:
            raise done.error
        return done.result

    def scan(
        self,
        bucket: BucketId,
        space: Space,
        *,
        start: bytes = b"",
        end: bytes = b"",
        expect: int = limits.LIST_PAGE_MAX,
    ) -> BucketScan:
        """A cursor over the visible registers with start <= name < end (b"" = no end), in byte order."""
        return BucketScan(self.read, self._peers, bucket, space, start=start, end=end, expect=expect)

    async def scan_all(
        self, bucket: BucketId, space: Space, *, start: bytes = b"", end: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """The (name, listing) pairs of such a scan, at most `limit`."""
        scan = self.scan(bucket, space, start=start, end=end, expect=limit or limits.LIST_PAGE_MAX)
        out: list[tuple[bytes, bytes]] = []
        while limit is None or len(out) < limit:
            pair = await scan.next()
            if pair is None:
                break
            out.append(pair)
        return out

    def id_ms(self) -> int:
        """The time to make an id of, for what a change will name: by the clock, unless it is known to lag."""
        return max(self._clock.wall_ms(), self._ids_ms)

    async def _write(self, key: RegisterKey, decide: Decide, deadline: float) -> Done:
        """One write of a key at a time, so that the many of one gateway do not outbid each other. No more than a
        courtesy: what holds between gateways, the ballots, holds here too."""
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        mine = False
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    mine = await turn.lock.acquire()
            return await self._race(key, decide, deadline)
        finally:
            if mine:
                turn.lock.release()
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def _race(self, key: RegisterKey, decide: Decide, deadline: float) -> Done:
        first_accept: int | None = None
        attempt = 0
        while True:
            ballot = self._ballots.next(self._clock.wall_ms())
            decision = partial(_swap, decide, ballot, first_accept)
            topology = self._peers.topology
            target = self._target(key)
            first = first_accept is None
            machine = WriteRound(target, ballot, decision, first=first, preferred=self._which_are_up(target))
            outcome = await self._run(machine, deadline)
            self._ballots.observe(machine.highest)
            if machine.accept_sent and first_accept is None:
                first_accept = ballot.time
            if isinstance(outcome, Done):
                return outcome
            if outcome is Retry.FULL:
                names = " ".join(sorted(topology.node(node).name for node in machine.full))
                raise InsufficientStorage(
                    f"No room for new metadata: {names} keep this key and are full. Delete objects or add nodes."
                )
            if outcome is Retry.UNKNOWN:
                raise QuorumLost(
                    "this write was overtaken by many others and its outcome is unknown; look, then repeat"
                )
            attempt += 1
            await self._pause(outcome, attempt, deadline, key, topology)
            if outcome is Retry.CONTENDED and first_accept is None:
                told = await self._told_by_a_read(key, partial(_swap, decide, ballot, None), deadline)
                if told is not None:
                    return told

    async def _told_by_a_read(
        self, key: RegisterKey, decide: Callable[[Value], Decision], deadline: float
    ) -> Done | None:
        """Of an operation that has sent no accept: its end, if it changes nothing at the value that is chosen now.

        Many who race to create one key need no ballot to learn that one of them has."""
        target = self._target(key)
        machine = ReadRound(target, with_data=False, preferred=self._which_are_up(target))
        outcome = await self._read_once(machine, deadline)
        if not isinstance(outcome, Done):
            return None
        decision = decide(outcome.value)
        if decision.value is not None or decision.unknown:
            return None
        return Done(outcome.value, decision.result, decision.error)

    async def _read_once(self, machine: ReadRound, deadline: float) -> Done | Retry:
        """A full replica refuses what a read writes back under a ballot that it did not promise. A round of its own
        asks for the promise, and may then settle what is there."""
        try:
            return await self._run(machine, deadline)
        except InsufficientStorage:
            return Retry.CONTENDED

    def _target(self, key: RegisterKey) -> Target:
        topology = self._peers.topology
        partition = topology.partition_of_register(key)
        view = topology.meta_view(partition)
        return Target(key.pack(), partition, view.tag, view.sets)

    def _which_are_up(self, target: Target) -> list[bool]:
        return [self._peers.is_up(node) for node in members(target.sets)]

    async def _pause(self, why: Retry, attempt: int, deadline: float, key: RegisterKey, topology: Topology) -> None:
        """Wait before another attempt than that under `topology`, or raise when the deadline is too near."""
        pause = LOST_PAUSE_S
        if why is Retry.STALE:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                    await self._peers.refresh(topology)
            pause = min(BACKOFF_S * 2**attempt, LOST_PAUSE_S)  # there may be no later map to be had for a while
        elif why is Retry.CONTENDED:
            pause = min(BACKOFF_S * 2**attempt, BACKOFF_MAX_S) * self._random.uniform(0.0, 2.0)
        if self._clock.monotonic() + pause >= deadline:
            raise QuorumLost(self._why_lost(why, key))
        await asyncio.sleep(pause)

    def _why_lost(self, why: Retry, key: RegisterKey) -> str:
        topology = self._peers.topology
        owners = members(topology.meta_view(topology.partition_of_register(key)).sets)
        missing = [topology.node(node).name for node in owners if not self._peers.is_up(node)]
        tail = f"; not answering: {', '.join(missing)}" if missing else ""
        return f"no majority of the key's replicas agreed in {limits.OPERATION_TIMEOUT_S:g} s ({why.value}){tail}"

    async def _run(self, machine: ReadRound | WriteRound, deadline: float) -> Done | Retry:
        """Drive one round to its outcome. Answers that come after it are heard by nobody.

        Without a task for each call: most of the work of a small request is here."""
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        full: InsufficientStorage | None = None

        def advance(sends: Iterable[Send]) -> None:
            for node, request, payload in sends:
                self._peers.send(node, request, payload, partial(told, node))
            if machine.outcome is not None:
                end()

        def told(node: NodeId, reply: Reply | ObjstoreError, payload: bytes | memoryview) -> None:
            nonlocal full
            if isinstance(reply, InsufficientStorage):
                full = reply
            try:
                if isinstance(reply, ObjstoreError):
                    advance(machine.fail(node))
                else:
                    advance(machine.receive(node, reply, payload))
            except Exception as bug:
                if finished.done():
                    raise
                finished.set_exception(bug)

        def hedge() -> None:
            if machine.outcome is None:
                advance(machine.more())

        def end() -> None:
            if not finished.done():
                finished.set_result(None)

        advance(machine.start())
        began, kind = loop.time(), type(machine)
        usual_s = self._usual_s[kind]
        hedging = loop.call_later(min(max(HEDGE_S, HEDGE_USUAL * usual_s), HEDGE_MAX_S), hedge)
        ending = loop.call_later(max(0.0, deadline - self._clock.monotonic()), end)
        try:
            await finished
        finally:
            hedging.cancel()
            ending.cancel()
            self._usual_s[kind] += _LEARNING * (loop.time() - began - usual_s)
        if machine.outcome is Retry.LOST and full is not None:
            if isinstance(machine, WriteRound) and machine.accept_sent:
                raise InsufficientStorage(f"It is not known whether this write happened. {full}")
            raise full
        return machine.outcome if machine.outcome is not None else Retry.LOST


def _swap(decide: Decide, ballot: Ballot, first_accept: int | None, value: Value) -> Decision:
    return decide(value, ballot, first_accept)

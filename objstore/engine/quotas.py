"""Keeps buckets within their quotas, as far as one process can know.

What a bucket holds is measured by the leading repairer and read every few seconds; to that comes what this process has
changed since, exactly, and what it has let begin and not ended. A write takes its *room* before it takes in a byte, so
that a body which will not fit is not sent in vain, and is judged again inside the register's change, where it is known
what it replaces (objstore/engine/metering.py). Two writes of one process never have the same room.

How far a bucket can go beyond: by what other gateway processes wrote since the measurement that this one knows. That is
as old as the survey of the repairer (a few seconds; see its age) and the 2 s for which it is remembered here; while no
repairer or coordinator answers it grows older, writes go on, and only what this process writes is counted. Clocks of
gateway and repairer that differ make that much more, or less, of its own writes count.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from objstore.cluster.usage import NOT_MEASURED, Measured
from objstore.model import bucketconfig
from objstore.model.errors import QuotaExceeded
from objstore.model.ids import BucketId
from objstore.model.quota import NOTHING, BucketQuota, Need, Spending, is_beyond
from objstore.model.records import BucketState
from objstore.ports import Clock

LEDGERS_MAX = 4096  # buckets with a quota that are kept in mind; beyond that, those that nobody writes to go

NO_QUOTA = BucketQuota()


class _Hold:
    """The room of one write."""

    __slots__ = ("need",)

    def __init__(self, need: Need) -> None:
        self.need = need


_own: ContextVar[_Hold | None] = ContextVar("the room of the write that is under way", default=None)


class UsageSource(Protocol):
    async def measured(self, bucket: BucketId) -> Measured:
        """What it held lately. Does not fail, nor take long."""


@dataclass(slots=True)
class Ledger:
    """Of one bucket with a quota. `held`: by writes that are under way."""

    name: str
    quota: BucketQuota
    measured: Measured = NOT_MEASURED
    spending: Spending = field(default_factory=Spending)
    held: Need = NOTHING

    def used(self) -> Need:
        """Measured, and what was changed since."""
        return self.measured.use.as_need().plus(self.spending.since(self.measured.as_of_ms))

    def is_idle(self) -> bool:
        return self.held == NOTHING and self.used() == self.measured.use.as_need()


class Quotas:
    def __init__(self, source: UsageSource | None, clock: Clock) -> None:
        """Without a source of measurements nothing is limited."""
        self._source = source
        self._clock = clock
        self._ledgers: dict[BucketId, Ledger] = {}

    def know(self, name: str, bucket: BucketState) -> Ledger | None:
        """What is kept of a bucket as it was just read; None if it has no quota."""
        quota = bucketconfig.get(bucket.config, BucketQuota) if bucket.config else None
        if quota is None or quota == NO_QUOTA or self._source is None:
            if self._ledgers:
                self._ledgers.pop(bucket.id, None)
            return None
        ledger = self._ledgers.get(bucket.id)
        if ledger is None:
            if len(self._ledgers) >= LEDGERS_MAX:
                self._ledgers = {id: one for id, one in self._ledgers.items() if not one.is_idle()}
            ledger = self._ledgers[bucket.id] = Ledger(name, quota)
        ledger.quota = quota
        return ledger

    async def ledger(self, bucket: BucketId) -> Ledger | None:
        """With what is measured by now; None if the bucket is not known to have a quota."""
        ledger = self._ledgers.get(bucket)
        if ledger is not None:
            await self._measure(bucket, ledger)
        return ledger

    async def _measure(self, bucket: BucketId, ledger: Ledger) -> None:
        assert self._source is not None
        measured = await self._source.measured(bucket)
        if measured.as_of_ms >= ledger.measured.as_of_ms:
            ledger.measured = measured

    async def room(
        self, bucket: BucketId, ledger: Ledger, at_most: Need, exactly: Callable[[], Awaitable[Need]]
    ) -> Need:
        """For a write that adds `at_most`; if that is too much `exactly` finds out. To be held. QuotaExceeded."""
        await self._measure(bucket, ledger)
        need = at_most
        if is_beyond(ledger.quota, ledger.used().plus(ledger.held), need):
            need = await exactly()
        if is_beyond(ledger.quota, ledger.used().plus(ledger.held), need):
            raise self._exceeded(ledger, ledger.held, need)
        return Need(max(0, need.bytes), max(0, need.objects))

    @contextmanager
    def holding(self, ledger: Ledger, room: Need) -> Iterator[None]:
        """No other write of this process takes this room meanwhile."""
        hold = _Hold(room)
        ledger.held = ledger.held.plus(room)
        mark = _own.set(hold)
        try:
            yield
        finally:
            _own.reset(mark)
            _give_back(ledger, hold)

    def admit(self, ledger: Ledger, more: Need) -> None:
        """QuotaExceeded unless this write may add so much. Has no effect, so it may be asked again."""
        own = _own.get()
        others = ledger.held.minus(own.need) if own is not None else ledger.held
        if is_beyond(ledger.quota, ledger.used().plus(others), more):
            raise self._exceeded(ledger, others, more)

    def spend(self, ledger: Ledger, more: Need) -> None:
        """It was added, or taken away, in place of what was held for it."""
        if more != NOTHING:
            ledger.spending.add(self._clock.wall_ms(), more)
            if (own := _own.get()) is not None:
                _give_back(ledger, own)

    def _exceeded(self, ledger: Ledger, held: Need, more: Need) -> QuotaExceeded:
        used, quota, as_of_ms = ledger.used(), ledger.quota, ledger.measured.as_of_ms
        if is_beyond(BucketQuota(quota.bytes), used.plus(held), more):
            what = f"{used.bytes} of the {quota.bytes} bytes of its quota, and this would add {more.bytes}"
        else:
            what = f"{used.objects} of the {quota.objects} objects of its quota, and this would add {more.objects}"
        under_way = f"; {held.bytes} more are being written" if held.bytes else ""
        age = f"{max(0, self._clock.wall_ms() - as_of_ms) // 1000} s ago" if as_of_ms else "never"
        return QuotaExceeded(
            f"bucket {ledger.name!r} uses {what}{under_way} (counted {age}; what this gateway wrote since is added). "
            f"Delete objects, or raise the quota: objstore bucket quota {ledger.name}"
        )


def _give_back(ledger: Ledger, hold: _Hold) -> None:
    ledger.held, hold.need = ledger.held.minus(hold.need), NOTHING

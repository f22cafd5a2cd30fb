"""Carries out what rules of buckets say: one round per interval over all buckets that have any.

A round is a walk in the order of names: of each bucket its objects, then its uploads. Where it is and what it has done
lie in the coordinator, so the next leader goes on from there; what is done twice by that changes nothing. A key that
cannot be looked after now is counted as an error and waits for the next round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import takewhile

import msgspec

from objstore.cluster.port import LIFECYCLE_KEY, Coordinator
from objstore.engine.announcing import announcement
from objstore.engine.calls import in_parallel
from objstore.engine.engine import Operations
from objstore.engine.keystate import state_of
from objstore.engine.lists import after_prefix
from objstore.engine.types import BucketInfo
from objstore.lifecycle.acting import Intent, change_of, done_of
from objstore.lifecycle.rules import due, may_be_due
from objstore.lifecycle.settings import LifecycleSettings
from objstore.model import bucketconfig, limits
from objstore.model.context import current_origin
from objstore.model.errors import NoSuchBucket, NoSuchUpload, ObjstoreError
from objstore.model.ids import uuid7
from objstore.model.lifecycle import (
    BucketLifecycle,
    Cursor,
    Done,
    LifecycleProgress,
    LifecycleRule,
    abortion,
    decode_progress,
    encode_progress,
)
from objstore.model.records import ListEntry, ObjectVersion, RegisterKey, Space, decode, split_upload_name
from objstore.ports import Clock, Random
from objstore.register.change import body_of

log = logging.getLogger(__name__)

WIDTH = 8  # keys at a time
PAGE = limits.LIST_PAGE_MAX
LISTED_PER_S = 5_000  # entries of lists
LOOKED_PER_S = 500  # keys whose registers are read, and perhaps changed
KEPT_EVERY_S = 2.0  # the place of a round


class LifecycleWorker:
    """Call `step` again and again while this process leads."""

    def __init__(
        self,
        engine: Operations,
        coordinator: Coordinator,
        clock: Clock,
        random: Random,
        settings: LifecycleSettings,
    ) -> None:
        self._engine = engine
        self._coordinator = coordinator
        self._clock = clock
        self._random = random
        self._settings = settings
        self._progress: LifecycleProgress | None = None  # None: not known
        self.shown: LifecycleProgress | None = None  # as last known; None: not yet
        self._revision = 0
        self._kept_at = float("-inf")
        self._buckets: list[str] = []  # of this round, in order

    async def step(self, may_act: Callable[[], bool]) -> bool:
        """A bounded piece of the round. False: there is nothing to do now. Raises ObjstoreError."""
        progress = self._progress or await self._load()
        now = self._clock.wall_ms()
        if not progress.started_ms:
            if now < min(progress.next_ms, progress.last_started_ms + self._interval_ms):
                return False
            progress = msgspec.structs.replace(progress, started_ms=now, cursor=Cursor(), now=Done(), error="")
            self._buckets = []
        if not self._buckets:
            self._buckets = sorted(one.name for one in await self._engine.list_buckets() if _rules(one))
        if not may_act():
            return False
        name = next((name for name in self._buckets if name >= progress.cursor.bucket), None)
        if name is None:
            await self._keep(self._ended(progress))
            return False
        self._progress = self.shown = progress = await self._walk(progress, name, may_act)
        if self._clock.monotonic() - self._kept_at >= KEPT_EVERY_S and may_act():
            await self._keep(progress)
        return True

    @property
    def _interval_ms(self) -> int:
        return round(1000 * self._settings.interval_s)

    def _ended(self, progress: LifecycleProgress) -> LifecycleProgress:
        now = self._clock.wall_ms()
        next_ms = max(now, progress.started_ms + self._interval_ms)
        done = progress.now
        if done.expired or done.marked or done.aborted or done.errors:
            log.info(
                "lifecycle: %d versions expired, %d objects under delete markers, %d uploads aborted, %d errors",
                *(done.expired, done.marked, done.aborted, done.errors),
            )
        return LifecycleProgress(
            last_started_ms=progress.started_ms,
            last_ended_ms=now,
            last=done,
            ever=progress.ever.plus(done),
            next_ms=next_ms,
            error=progress.error,
        )

    # --- what is known of the round

    async def _load(self) -> LifecycleProgress:
        entry = await self._coordinator.get(LIFECYCLE_KEY)
        self._revision = entry.revision if entry is not None else 0
        self._buckets = []
        try:
            progress = decode_progress(entry.value) if entry is not None else LifecycleProgress()
        except msgspec.DecodeError as error:
            log.error("how far lifecycle was cannot be read, so a round begins: %s", error)
            progress = LifecycleProgress()
        self._progress = self.shown = progress
        return progress

    async def _keep(self, progress: LifecycleProgress) -> None:
        self._progress = None  # until it is known what is there
        revision = await self._coordinator.put(LIFECYCLE_KEY, encode_progress(progress), expected=self._revision)
        if revision is not None:  # else another has led meanwhile: its progress is read next
            self._progress = self.shown = progress
            self._revision = revision
            self._kept_at = self._clock.monotonic()

    # --- the walk

    async def _walk(self, progress: LifecycleProgress, name: str, may_act: Callable[[], bool]) -> LifecycleProgress:
        """One page of a bucket."""
        before = progress.cursor
        at = before if before.bucket == name else Cursor(name)
        done = progress.now if at.uploads or at.after else progress.now.plus(Done(buckets=1))
        page = _Page(self, name, may_act)
        try:
            at = await page.go(at, await self._engine.get_bucket(name))
        except NoSuchBucket:
            at = _behind(name)
        self._report(page)
        began = page.began
        pause = page.listed / LISTED_PER_S + page.looked / LOOKED_PER_S - (self._clock.monotonic() - began)
        if pause > 0:
            await asyncio.sleep(pause)
        return msgspec.structs.replace(
            progress, cursor=at, now=done.plus(page.done), error=page.error or progress.error
        )

    def _report(self, page: _Page) -> None:
        if page.error:
            log.info(
                "lifecycle: %d keys of bucket %s wait for the next round: %s", page.done.errors, page.name, page.error
            )


class _Page:
    """Some of the objects or uploads of a bucket."""

    def __init__(self, worker: LifecycleWorker, name: str, may_act: Callable[[], bool]) -> None:
        self._engine = worker._engine
        self._clock = worker._clock
        self._random = worker._random
        self._day_ms = worker._settings.day_ms
        self._may_act = may_act
        self.name = name
        self.began = self._clock.monotonic()
        self.listed = self.looked = 0
        self.done = Done()
        self.error = ""

    async def go(self, at: Cursor, bucket: BucketInfo) -> Cursor:
        """The place behind it."""
        rules = [rule for rule in _rules(bucket) if (rule.abort_days if at.uploads else _ends(rule))]
        found: list[tuple[bytes, bytes]] = []
        if rules:
            prefix = _common([rule.prefix or "" for rule in rules]).encode()
            start = max(prefix, bytes.fromhex(at.after) + b"\x00") if at.after else prefix
            space = Space.UPLOAD if at.uploads else Space.OBJECT
            found = await self._engine.registers.scan_all(
                bucket.id, space, start=start, end=after_prefix(prefix), limit=PAGE
            )
        self.listed = len(found)
        self.done = Done(keys=len(found))
        now_ms = self._clock.wall_ms()

        async def one(item: tuple[bytes, bytes]) -> None:
            if not self._may_act():
                return
            entry = decode(item[1], ListEntry)
            try:
                if at.uploads:
                    await self._upload(bucket, item[0], entry, now_ms)
                elif may_be_due(item[0].decode(), entry, rules, now_ms, self._day_ms):
                    await self._object(bucket, item[0].decode(), now_ms)
            except ObjstoreError as error:
                self.done = self.done.plus(Done(errors=1))
                self.error = f"{self.name}: {error}"

        await in_parallel(WIDTH, found, one)
        if not self._may_act():
            return at
        if len(found) == PAGE:
            return Cursor(self.name, at.uploads, found[-1][0].hex())
        return _behind(self.name) if at.uploads else Cursor(self.name, True)

    async def _object(self, bucket: BucketInfo, key: str, now_ms: int) -> None:
        self.looked += 1
        register = RegisterKey(bucket.id, Space.OBJECT, key.encode())
        state = state_of(body_of(await self._engine.registers.read(register)))
        seen = due(key, state, _rules(bucket), now_ms, self._day_ms, versioned=bool(bucket.versioning))
        if not seen:
            return
        fresh = await self._engine.get_bucket(self.name)  # what was configured until now is obeyed
        if fresh.id != bucket.id:
            return
        intent = Intent(
            key,
            tuple(seen),
            _rules(fresh),
            bool(fresh.versioning),
            self._marker(fresh.versioning, now_ms),
            announcement(fresh.config, self.name, key, current_origin(), fresh.versioning),
            bucketconfig.migration_of(fresh.config),
            now_ms,
            self._day_ms,
        )
        change = change_of(intent)
        while self._may_act():
            did = done_of(await self._engine.registers.change(register, change))
            if did == Done():
                return
            self.done = self.done.plus(did)

    def _marker(self, versioning: str, now_ms: int) -> ObjectVersion:
        id = uuid7(now_ms, self._random.bytes(10))
        return ObjectVersion(id, 0, "", now_ms, {}, (), null=versioning != "Enabled", marker=True)

    async def _upload(self, bucket: BucketInfo, name: bytes, entry: ListEntry, now_ms: int) -> None:
        key, upload = split_upload_name(name)
        if not self._is_abandoned(_rules(bucket), key.decode(), entry, now_ms):
            return
        self.looked += 1
        fresh = await self._engine.get_bucket(self.name)
        if fresh.id != bucket.id or not self._is_abandoned(_rules(fresh), key.decode(), entry, now_ms):
            return
        try:
            await self._engine.abort_upload(self.name, key.decode(), upload.hex())
        except NoSuchUpload:
            return  # its client was faster
        self.done = self.done.plus(Done(aborted=1))

    def _is_abandoned(self, rules: Sequence[LifecycleRule], key: str, entry: ListEntry, now_ms: int) -> bool:
        end = abortion(rules, key, entry.modified_ms, self._day_ms)
        return end is not None and end.at_ms <= now_ms


def _common(prefixes: Sequence[str]) -> str:
    """What all of them begin with."""
    first, last = min(prefixes), max(prefixes)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(char for char, _ in same)


def _behind(name: str) -> Cursor:
    """No name of a bucket lies between."""
    return Cursor(name + "\x00")


def _ends(rule: LifecycleRule) -> bool:
    """It ends versions."""
    return bool(rule.days or rule.noncurrent_days or rule.lone_marker) or rule.date_ms is not None


def _rules(bucket: BucketInfo) -> tuple[LifecycleRule, ...]:
    found = bucketconfig.get(bucket.config, BucketLifecycle)
    return tuple(rule for rule in found.rules if rule.enabled) if found is not None else ()

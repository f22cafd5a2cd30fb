"""Writes the inventory reports that configurations of buckets ask for. Run by the repairer that leads.

A report is files of gzipped CSV, then its manifest, then the checksum of that: who finds the checksum finds all of it.
When it was written lies in the coordinator. A leader that dies before it has said so leaves a report that is written
again, and files that no manifest names; one that fails takes its files away and tries again later.

Nothing of a bucket is held but one file that is being filled. Reports are written with the rights of the cluster: they
count for the destination's quota, and are not refused by it.
"""

from __future__ import annotations

import gzip
import io
import logging
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from objstore.cluster.port import INVENTORY, Coordinator
from objstore.engine.engine import Operations
from objstore.engine.types import BucketInfo
from objstore.inventory.reading import inventory
from objstore.inventory.report import ReportFile, checksum_key, folder, lines, manifest, manifest_key, md5, schema
from objstore.inventory.rows import Row
from objstore.model import bucketconfig
from objstore.model.encryption import BucketEncryption
from objstore.model.errors import InvalidRequest, NoSuchBucket, ObjstoreError, Unavailable
from objstore.model.inventory import (
    DAY_MS,
    BucketInventory,
    InventoryRule,
    Written,
    WrittenReports,
    decode_written,
    encode_written,
)
from objstore.ports import Buffer, Clock, Random

log = logging.getLogger(__name__)

FILE_BYTES = 8 << 20  # of a file of a report, compressed
AGAIN_MS = 600_000  # after an attempt that failed


class InventoryWorker:
    def __init__(
        self, engine: Operations, coordinator: Coordinator, clock: Clock, random: Random, *, day_ms: int = DAY_MS
    ) -> None:
        self._engine = engine
        self._coordinator = coordinator
        self._clock = clock
        self._random = random
        self._day_ms = day_ms

    async def step(self, reporting: Mapping[bytes, str], may_act: Callable[[], bool]) -> None:
        """Writes what is due. `reporting`: id and name of every bucket that has configurations, as the survey knows;
        what is known of others is forgotten. Raises ObjstoreError when the cluster or the coordinator is away."""
        entries, _ = await self._coordinator.range(INVENTORY)
        known = {entry.key.removeprefix(INVENTORY): entry.value for entry in entries}
        wanted = {id.hex(): name for id, name in reporting.items()}
        for id, name in wanted.items():
            try:
                info = await self._engine.get_bucket(name)
            except NoSuchBucket:
                continue
            rules = (bucketconfig.get(info.config, BucketInventory) or BucketInventory()).rules
            if info.id.hex() == id:
                await self._bucket(info, rules, _read(known.get(id)), may_act)
        for id in known:
            if id not in wanted and may_act():
                await self._coordinator.delete(INVENTORY + id)

    async def _bucket(
        self,
        info: BucketInfo,
        rules: tuple[InventoryRule, ...],
        reports: dict[str, Written],
        may_act: Callable[[], bool],
    ) -> None:
        reports = {rule.id: reports.get(rule.id, Written()) for rule in rules}
        for rule in rules:
            if not may_act():
                return
            if self._is_due(rule, reports[rule.id]):
                reports[rule.id] = await self._report(info, rule, reports[rule.id], may_act)
                if may_act():
                    value = encode_written(WrittenReports(reports))
                    await self._coordinator.put(INVENTORY + info.id.hex(), value)

    def _is_due(self, rule: InventoryRule, last: Written) -> bool:
        now = self._clock.wall_ms()
        again_ms = min(AGAIN_MS, self._day_ms)
        rested = not last.error or now >= last.began_ms + again_ms
        return rule.enabled and rested and now >= last.done_ms + rule.period_ms(self._day_ms)

    async def _report(
        self, info: BucketInfo, rule: InventoryRule, last: Written, may_act: Callable[[], bool]
    ) -> Written:
        began_ms = self._clock.wall_ms()
        try:
            return await self._write(info, rule, began_ms, may_act)
        except ObjstoreError as error:
            log.warning("inventory %s of bucket %s could not be written: %s", rule.id, info.name, error)
            return msgspec.structs.replace(last, began_ms=began_ms, error=str(error) or type(error).__name__)

    async def _write(self, info: BucketInfo, rule: InventoryRule, at_ms: int, may_act: Callable[[], bool]) -> Written:
        target = await self._engine.get_bucket(rule.destination)
        encryption = bucketconfig.get(target.config, BucketEncryption)
        if encryption is not None and encryption.algorithm:
            raise InvalidRequest(f"bucket {rule.destination} encrypts by default, and reports cannot be encrypted")
        files: list[ReportFile] = []
        key = manifest_key(rule, info.name, at_ms)
        try:
            count = await self._write_files(info, rule, files, may_act)
            raw = manifest(rule, info.name, at_ms, files)
            await self._put(rule.destination, key, raw, "application/json")
            await self._put(rule.destination, checksum_key(key), md5(raw).encode(), "text/plain")
        except ObjstoreError:
            await self._take_away(rule.destination, files)
            raise
        log.info("inventory %s of bucket %s: %d lines in %d files", rule.id, info.name, count, len(files))
        return Written(at_ms, at_ms, count, len(files), key)

    async def _write_files(
        self, info: BucketInfo, rule: InventoryRule, files: list[ReportFile], may_act: Callable[[], bool]
    ) -> int:
        """How many lines; `files` grows with each that is written."""
        columns, count, filling = schema(rule), 0, _Filling()
        rows = inventory(self._engine.registers, info.name, info.id, prefix=rule.prefix, versions=rule.all_versions)
        async for batch in rows:
            if not may_act():
                raise Unavailable("this process does not lead any more; the one that does writes the report")
            filling.add(batch, columns)
            count += len(batch)
            if filling.size >= FILE_BYTES:
                await self._put_file(info, rule, filling.end(), files)
                filling = _Filling()
        if filling.lines or not files:
            await self._put_file(info, rule, filling.end(), files)
        return count

    async def _put_file(self, info: BucketInfo, rule: InventoryRule, data: bytes, files: list[ReportFile]) -> None:
        key = f"{folder(rule, info.name)}/data/{self._random.bytes(16).hex()}.csv.gz"
        await self._put(rule.destination, key, data, "application/gzip")
        files.append(ReportFile(key, len(data), md5(data)))

    async def _put(self, bucket: str, key: str, data: bytes, kind: str) -> None:
        async def body() -> AsyncIterator[Buffer]:
            yield data

        await self._engine.put_object(bucket, key, body(), len(data), {"content-type": kind})

    async def _take_away(self, bucket: str, files: list[ReportFile]) -> None:
        for one in files:
            try:
                await self._engine.delete_object(bucket, one.key)
            except ObjstoreError as error:
                log.info("%s/%s of a report that failed stays: %s", bucket, one.key, error)


class _Filling:
    """A file of a report, as far as it is."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._file = gzip.GzipFile(fileobj=self._buffer, mode="wb", compresslevel=6, mtime=0)
        self.lines = 0

    @property
    def size(self) -> int:
        return self._buffer.tell()

    def add(self, rows: list[Row], columns: tuple[str, ...]) -> None:
        self._file.write(lines(rows, columns))
        self.lines += len(rows)

    def end(self) -> bytes:
        self._file.close()
        return self._buffer.getvalue()


def _read(raw: bytes | None) -> dict[str, Written]:
    if raw is None:
        return {}
    try:
        return decode_written(raw).reports
    except msgspec.DecodeError as error:
        log.error("when inventory reports were written cannot be read, so they are written again: %s", error)
        return {}

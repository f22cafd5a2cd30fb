"""Inventory configurations as clients make them, and the reports that a worker over the same engine writes."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.cluster.port import INVENTORY
from objstore.cluster.store import CoordinatorStore
from objstore.inventory import worker
from objstore.inventory.worker import InventoryWorker
from objstore.model import bucketconfig
from objstore.model.encryption import BucketEncryption
from objstore.model.errors import QuorumLost
from objstore.model.inventory import DAY_MS, Written, decode_written
from tests.s3.conftest import Endpoint, make_client
from tests.s3.errors import error_code
from tests.s3.local_gateway import ACCESS_KEY, SECRET_KEY, LocalGateway, local_gateway
from tests.s3.memory_engine import MemoryEngine
from tests.sim.coordinator import LocalCoordinator

KEYS = ["a/1", "a/\u00e9 +%", 'a/"quoted", line\n', "b/2"]


class Later(SystemClock):
    def __init__(self) -> None:
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


class Stand:
    """A gateway, and a repairer's worker over the same engine."""

    def __init__(self, engine: MemoryEngine, gateway: LocalGateway) -> None:
        self.engine, self.gateway = engine, gateway
        self.s3 = make_client(Endpoint(gateway.url, ACCESS_KEY, SECRET_KEY))
        self.clock = Later()
        self.coordinator = LocalCoordinator(CoordinatorStore(), self.clock)
        self.worker = InventoryWorker(engine, self.coordinator, self.clock, SystemRandom())
        self.leads = True

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.gateway.loop).result(20)

    def step(self) -> Written | None:
        """What is known of the report "daily" of bucket "source" then."""

        async def main() -> Written | None:
            found = [info for info in await self.engine.list_buckets() if "inventory" in info.config]
            await self.worker.step({info.id: info.name for info in found}, lambda: self.leads)
            entries, _ = await self.coordinator.range(INVENTORY)
            return decode_written(entries[0].value).reports.get("daily") if entries else None

        written: Written | None = self.run(main())
        return written

    def keys(self) -> list[str]:
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket="reports").get("Contents", [])]

    def read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket="reports", Key=key)["Body"].read()
        return body

    def report(self, manifest_key: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """The manifest, and the lines by the names of their columns; checksums hold."""
        raw = self.read(manifest_key)
        assert self.read(manifest_key.replace("manifest.json", "manifest.checksum")).decode() == _md5(raw)
        manifest = json.loads(raw)
        columns = manifest["fileSchema"].split(", ")
        lines = []
        for file in manifest["files"]:
            data = self.read(file["key"])
            assert (len(data), _md5(data)) == (file["size"], file["MD5checksum"])
            text = io.StringIO(gzip.decompress(data).decode(), newline="")
            lines += [dict(zip(columns, line, strict=True)) for line in csv.reader(text)]
        return manifest, lines


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def configuration(**changes: Any) -> dict[str, Any]:
    destination = {"Bucket": "arn:aws:s3:::reports", "Format": "CSV", "Prefix": "inv"}
    destination.update(changes.pop("destination", {}))
    return {
        "Destination": {"S3BucketDestination": destination},
        "IsEnabled": True,
        "Id": "daily",
        "IncludedObjectVersions": "Current",
        "OptionalFields": ["Size", "ETag"],
        "Schedule": {"Frequency": "Daily"},
        **changes,
    }


@pytest.fixture
def stand() -> Iterator[Stand]:
    engine = MemoryEngine()
    with local_gateway(engine) as gateway:
        stand = Stand(engine, gateway)
        for name in ("source", "reports"):
            stand.s3.create_bucket(Bucket=name)
        for key in KEYS:
            stand.s3.put_object(Bucket="source", Key=key, Body=b"hello")
        yield stand
        stand.s3.close()


def put(stand: Stand, **changes: Any) -> None:
    about = configuration(**changes)
    stand.s3.put_bucket_inventory_configuration(Bucket="source", Id=about["Id"], InventoryConfiguration=about)


def test_a_configuration_is_shown_as_it_was_made(stand: Stand) -> None:
    s3 = stand.s3
    for id in ("daily", "all.of-it_2"):
        put(stand, Id=id, Filter={"Prefix": "a/"}, IncludedObjectVersions="All")
        found = s3.get_bucket_inventory_configuration(Bucket="source", Id=id)["InventoryConfiguration"]
        assert found == configuration(Id=id, Filter={"Prefix": "a/"}, IncludedObjectVersions="All")
    put(stand, OptionalFields=[])
    listed = s3.list_bucket_inventory_configurations(Bucket="source")
    assert [one["Id"] for one in listed["InventoryConfigurationList"]] == ["all.of-it_2", "daily"]
    assert "OptionalFields" not in listed["InventoryConfigurationList"][1] and listed["IsTruncated"] is False
    for id in ("daily", "all.of-it_2"):
        s3.delete_bucket_inventory_configuration(Bucket="source", Id=id)
        assert error_code(s3.get_bucket_inventory_configuration, Bucket="source", Id=id) == "NoSuchConfiguration"
        assert error_code(s3.delete_bucket_inventory_configuration, Bucket="source", Id=id) == "NoSuchConfiguration"
    assert "InventoryConfigurationList" not in s3.list_bucket_inventory_configurations(Bucket="source")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"destination": {"Format": "ORC"}}, "NotImplemented"),
        ({"destination": {"Encryption": {"SSES3": {}}}}, "NotImplemented"),
        ({"destination": {"Bucket": "reports"}}, "InvalidArgument"),
        ({"destination": {"Bucket": "arn:aws:s3:::nowhere"}}, "InvalidS3DestinationBucket"),
        ({"OptionalFields": ["ObjectOwner"]}, "NotImplemented"),
        ({"OptionalFields": ["Colour"]}, "MalformedXML"),
        ({"Schedule": {"Frequency": "Hourly"}}, "MalformedXML"),
        ({"Id": "no spaces"}, "InvalidArgument"),
    ],
)
def test_what_cannot_be_is_refused(stand: Stand, changes: dict[str, Any], code: str) -> None:
    about = configuration(**changes)
    call = stand.s3.put_bucket_inventory_configuration
    assert error_code(call, Bucket="source", Id=about["Id"], InventoryConfiguration=about) == code


def test_reports_that_would_lie_in_plain_where_all_is_encrypted_are_refused(stand: Stand) -> None:
    put(stand)
    stand.run(stand.engine.configure_bucket("reports", lambda it: bucketconfig.with_(it, BucketEncryption())))
    written = stand.step()
    assert written is not None and "encrypts" in written.error
    assert stand.keys() == []
    call = stand.s3.put_bucket_inventory_configuration
    about = configuration()
    assert error_code(call, Bucket="source", Id="daily", InventoryConfiguration=about) == "NotImplemented"


def test_a_report_is_written_each_day_and_holds_every_object(stand: Stand) -> None:
    put(stand)
    written = stand.step()
    assert written is not None and (written.rows, written.error) == (len(KEYS), "")
    manifest, lines = stand.report(written.manifest)
    assert written.manifest.startswith("inv/source/daily/")
    assert (manifest["sourceBucket"], manifest["destinationBucket"]) == ("source", "arn:aws:s3:::reports")
    assert manifest["fileSchema"] == "Bucket, Key, Size, ETag"
    assert [unquote(line["Key"]) for line in lines] == sorted(KEYS)
    assert {(line["Bucket"], line["Size"], line["ETag"]) for line in lines} == {("source", "5", _md5(b"hello"))}

    before = stand.keys()
    assert stand.step() == written and stand.keys() == before, "it is not due"
    stand.clock.ahead_ms = DAY_MS + 60_000
    again = stand.step()
    assert again is not None and again.manifest != written.manifest
    assert stand.report(written.manifest)[1] == stand.report(again.manifest)[1]


def test_of_all_versions_and_by_prefix(stand: Stand) -> None:
    s3 = stand.s3
    s3.put_bucket_versioning(Bucket="source", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="source", Key="a/1", Body=b"again")
    s3.delete_object(Bucket="source", Key="a/1")
    put(stand, Filter={"Prefix": "a/1"}, IncludedObjectVersions="All", OptionalFields=["Size", "EncryptionStatus"])
    written = stand.step()
    assert written is not None
    _, lines = stand.report(written.manifest)
    assert [(line["IsLatest"], line["IsDeleteMarker"], line["Size"]) for line in lines] == [
        ("true", "true", ""),
        ("false", "false", "5"),
        ("false", "false", "5"),
    ]
    assert lines[2]["VersionId"] == "" and lines[1]["VersionId"]
    assert [line["EncryptionStatus"] for line in lines] == ["", "NOT-SSE", "NOT-SSE"]


def test_a_long_report_has_several_files(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "FILE_BYTES", 1)
    for number in range(150):
        stand.s3.put_object(Bucket="source", Key=f"c/{number:03}", Body=b"")
    put(stand)
    written = stand.step()
    assert written is not None and written.files >= 2
    assert len(stand.report(written.manifest)[1]) == len(KEYS) + 150


def test_a_report_that_fails_leaves_no_files_and_is_tried_again(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "FILE_BYTES", 1)
    for number in range(150):
        stand.s3.put_object(Bucket="source", Key=f"c/{number:03}", Body=b"")
    put(stand)
    whole = stand.engine.put_object
    calls = 0

    async def failing(bucket: str, key: str, *rest: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise QuorumLost("too few nodes")
        return await whole(bucket, key, *rest, **more)

    stand.engine.put_object = failing
    written = stand.step()
    assert written is not None and (written.error, written.done_ms) == ("too few nodes", 0)
    assert calls == 2 and stand.keys() == []
    assert stand.step() == written, "not at once"
    stand.clock.ahead_ms = worker.AGAIN_MS + 1
    written = stand.step()
    assert written is not None and written.error == "" and len(stand.report(written.manifest)[1]) == len(KEYS) + 150


def test_who_does_not_lead_writes_nothing_and_what_is_not_wanted_is_forgotten(stand: Stand) -> None:
    put(stand)
    stand.leads = False
    assert stand.step() is None and stand.keys() == []
    stand.leads = True
    assert stand.step() is not None
    put(stand, IsEnabled=False)
    stand.clock.ahead_ms = 2 * DAY_MS
    before = stand.keys()
    assert stand.step() is not None and stand.keys() == before
    stand.s3.delete_bucket_inventory_configuration(Bucket="source", Id="daily")
    assert stand.step() is None

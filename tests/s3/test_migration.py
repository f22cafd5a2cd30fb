"""A bucket that is migrated from another service: what a client of the new one sees, and what is copied (INV-21)."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from objstore.engine.adopting import AlreadyHere, MigrationOver, Original
from objstore.migrate import client as client_module
from tests.s3.migration import BUCKET, Migration, error_of, migration

PART = 5 << 20


@pytest.fixture
def moving() -> Iterator[Migration]:
    with migration() as both:
        yield both


def keys(s3: Any, **options: Any) -> list[str]:
    page = s3.list_objects_v2(Bucket=BUCKET, **options)
    return [one["Key"] for one in page.get("Contents", [])] + [one["Prefix"] for one in page.get("CommonPrefixes", [])]


def body(s3: Any, key: str, **options: Any) -> bytes:
    found: bytes = s3.get_object(Bucket=BUCKET, Key=key, **options)["Body"].read()
    return found


def put_in_parts(s3: Any, key: str, sizes: list[int]) -> str:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, ContentType="video/x", Metadata={"made": "of parts"})
    parts = []
    for number, size in enumerate(sizes, 1):
        made = s3.upload_part(
            Bucket=BUCKET, Key=key, UploadId=upload["UploadId"], PartNumber=number, Body=bytes((number,)) * size
        )
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    done = s3.complete_multipart_upload(
        Bucket=BUCKET, Key=key, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
    )
    etag: str = done["ETag"]
    return etag


ABOUT = {
    "ContentType": "text/plain",
    "CacheControl": "max-age=5",
    "ContentLanguage": "de",
    "Metadata": {"who": "me", "umlaut": "=?UTF-8?Q?=C3=A4?="},
    "Tagging": "a=1&b=2",
    "ChecksumAlgorithm": "SHA256",
}


def seen(s3: Any, key: str) -> dict[str, Any]:
    answer = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_an_object_that_is_not_here_is_read_from_the_origin_as_it_is_there(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="a/ü +%2F", Body=b"0123456789", **ABOUT)
    moving.begin()
    assert seen(moving.new, "a/ü +%2F") == seen(moving.old, "a/ü +%2F")
    assert body(moving.new, "a/ü +%2F") == b"0123456789"
    assert body(moving.new, "a/ü +%2F", Range="bytes=3-5") == b"345"
    moving.wait_behind()
    assert moving.keys_here() == ["a/ü +%2F"]
    moving.end()
    assert seen(moving.new, "a/ü +%2F") == seen(moving.old, "a/ü +%2F")
    assert body(moving.new, "a/ü +%2F") == b"0123456789"
    assert moving.new.get_object_tagging(Bucket=BUCKET, Key="a/ü +%2F")["TagSet"] == [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": "2"},
    ]


def test_what_nobody_has_is_absent(moving: Migration) -> None:
    moving.begin()
    assert error_of(lambda: body(moving.new, "k")) == (404, "NoSuchKey")


def test_an_object_in_parts_keeps_them_before_and_after_it_is_copied(moving: Migration) -> None:
    etag = put_in_parts(moving.old, "k", [PART, PART + 1, 7])
    moving.begin()

    def check() -> None:
        second = moving.new.get_object(Bucket=BUCKET, Key="k", PartNumber=2)
        assert (second["ETag"], second["PartsCount"], second["ContentLength"]) == (etag, 3, PART + 1)
        assert second["Body"].read() == b"\x02" * (PART + 1)

    check()
    moving.wait_behind()
    progress = moving.walk()
    assert (progress.state, progress.seen, progress.failed) == ("done", 1, 0)
    moving.end()
    check()
    assert hashlib.md5(body(moving.new, "k")).digest() == hashlib.md5(body(moving.old, "k")).digest()


def test_a_list_shows_both_and_what_is_here_wins(moving: Migration) -> None:
    for key in ("a", "b/1", "b/2", "c", "d/1", "e"):
        moving.old.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    moving.begin()
    for key in ("b/3", "c", "f"):
        moving.new.put_object(Bucket=BUCKET, Key=key, Body=b"newer")
    for key in ("a", "d/1"):
        moving.new.delete_object(Bucket=BUCKET, Key=key)
    assert keys(moving.new) == ["b/1", "b/2", "b/3", "c", "e", "f"]
    assert keys(moving.new, Delimiter="/") == ["c", "e", "f", "b/"]
    assert keys(moving.new, Prefix="b/") == ["b/1", "b/2", "b/3"]
    assert keys(moving.new, StartAfter="b/2") == ["b/3", "c", "e", "f"]
    sizes = {one["Key"]: one["Size"] for one in moving.new.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert (sizes["c"], sizes["e"]) == (5, 3)
    pages = moving.new.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 1})
    assert [one["Key"] for page in pages for one in page.get("Contents", [])] == keys(moving.new)
    versions = moving.new.list_object_versions(Bucket=BUCKET)
    assert [one["Key"] for one in versions["Versions"]] == keys(moving.new)
    assert "DeleteMarkers" not in versions


def test_many_keys_under_one_prefix_are_jumped_over(moving: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        moving.old.put_object(Bucket=BUCKET, Key=f"p/{number:03}", Body=b"")
    moving.old.put_object(Bucket=BUCKET, Key="q", Body=b"")
    moving.begin()
    asked: list[str] = []
    page = client_module.OriginClient.page

    async def counted(self: Any, prefix: str, after: str, limit: int) -> Any:
        asked.append(after)
        return await page(self, prefix, after, limit)

    monkeypatch.setattr(client_module.OriginClient, "page", counted)
    assert keys(moving.new, Delimiter="/", MaxKeys=2) == ["q", "p/"]
    assert len(asked) <= 3


@pytest.mark.parametrize("versioned", [False, True])
def test_a_delete_here_wins_for_ever(moving: Migration, versioned: bool) -> None:
    if versioned:
        moving.new.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for key in ("never read", "copied", "written"):
        moving.old.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    moving.begin()
    body(moving.new, "copied")
    moving.wait_behind()
    moving.new.put_object(Bucket=BUCKET, Key="written", Body=b"new")
    for key in ("never read", "copied", "written"):
        moving.new.delete_object(Bucket=BUCKET, Key=key)
    assert moving.walk().copied == 0
    for key in ("never read", "copied", "written"):
        assert error_of(lambda key=key: body(moving.new, key)) == (404, "NoSuchKey")  # type: ignore[misc]
    assert keys(moving.new) == []
    assert moving.keys_here() == []


def test_a_version_that_is_deleted_for_good_does_not_come_back(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    moving.begin()
    body(moving.new, "k")
    moving.wait_behind()
    moving.new.delete_object(Bucket=BUCKET, Key="k", VersionId="null")
    assert error_of(lambda: body(moving.new, "k")) == (404, "NoSuchKey")
    moving.new.delete_object(Bucket=BUCKET, Key="other", VersionId="null")
    moving.old.put_object(Bucket=BUCKET, Key="other", Body=b"old")
    assert error_of(lambda: body(moving.new, "other")) == (404, "NoSuchKey")


def test_a_delete_of_an_earlier_migration_does_not_count(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    moving.begin()
    moving.new.delete_object(Bucket=BUCKET, Key="k")
    moving.end()
    moving.begin(b"another id......")
    assert keys(moving.new) == ["k"]
    assert body(moving.new, "k") == b"old"
    moving.wait_behind()
    assert moving.keys_here() == ["k"]


def test_conditions_see_what_is_in_the_origin(moving: Migration) -> None:
    etag = moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"old")["ETag"]
    for key in ("l", "m", "n"):
        moving.old.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    moving.begin()
    put = moving.new.put_object
    assert error_of(lambda: put(Bucket=BUCKET, Key="k", Body=b"new", IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert body(moving.new, "k") == b"old"
    put(Bucket=BUCKET, Key="k", Body=b"new", IfMatch=etag)
    put(Bucket=BUCKET, Key="free", Body=b"new", IfNoneMatch="*")
    wrong = error_of(lambda: moving.new.delete_object(Bucket=BUCKET, Key="l", IfMatch='"x"'))
    assert wrong == (412, "PreconditionFailed")
    moving.new.delete_object(Bucket=BUCKET, Key="l", IfMatch=etag)
    moving.new.delete_object(Bucket=BUCKET, Key="m")
    put(Bucket=BUCKET, Key="m", Body=b"new", IfNoneMatch="*")
    moving.new.put_object_tagging(Bucket=BUCKET, Key="n", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert [body(moving.new, key) for key in ("k", "free", "m", "n")] == [b"new", b"new", b"new", b"old"]


@pytest.mark.parametrize("key", ["a/../b", "./a", "//a//", "%41", "a?b#c&d=e", "\u00e9 \u4e2d\U0001f600", "a\nb"])
def test_any_key_is_read_and_listed(moving: Migration, key: str) -> None:
    moving.old.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    moving.begin()
    assert body(moving.new, key) == key.encode()
    assert keys(moving.new) == [key]
    moving.walk()
    assert moving.keys_here() == [key]


def test_what_a_list_of_versions_shows_can_be_read(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    moving.begin(paused=True)
    (version,) = moving.new.list_object_versions(Bucket=BUCKET)["Versions"]
    assert (version["VersionId"], version["IsLatest"]) == ("null", True)
    assert body(moving.new, "k", VersionId="null") == b"old"
    moving.wait_behind()
    moving.new.delete_object(Bucket=BUCKET, Key="k", VersionId="null")
    assert error_of(lambda: body(moving.new, "k", VersionId="null")) == (404, "NoSuchVersion")


def test_an_object_of_the_origin_can_be_copied_from(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    moving.begin()
    moving.new.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "k"})
    assert body(moving.new, "copy") == b"old"


def test_writes_go_here_only(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    moving.begin()
    moving.new.put_object(Bucket=BUCKET, Key="k", Body=b"new")
    moving.new.delete_object(Bucket=BUCKET, Key="k")
    assert body(moving.old, "k") == b"old"
    assert error_of(lambda: moving.new.delete_bucket(Bucket=BUCKET)) == (409, "BucketNotEmpty")
    moving.end()
    moving.new.delete_bucket(Bucket=BUCKET)  # that a key was deleted does not keep it


def test_only_keys_with_the_prefix_are_there(moving: Migration) -> None:
    for key in ("a/1", "b/1"):
        moving.old.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    moving.begin(prefix="a/")
    assert keys(moving.new) == ["a/1"]
    assert error_of(lambda: body(moving.new, "b/1")) == (404, "NoSuchKey")
    assert moving.walk().seen == 1


def test_copies_in_an_encrypted_bucket_are_encrypted(moving: Migration) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    moving.new.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    text = b"plain text " * 50_000
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=text)
    moving.begin()
    assert moving.walk().verified == 1
    assert moving.new.head_object(Bucket=BUCKET, Key="k")["ServerSideEncryption"] == "AES256"
    assert body(moving.new, "k") == text
    assert not any(b"plain text" in stored for stored in moving.engine.stored.values())


# --- the walk


def test_everything_is_copied_page_by_page() -> None:
    with migration(page=3) as moving:
        for number in range(10):
            moving.old.put_object(Bucket=BUCKET, Key=f"k{number}", Body=bytes(number))
        moving.begin()
        moving.new.put_object(Bucket=BUCKET, Key="k3", Body=b"new")
        moving.new.delete_object(Bucket=BUCKET, Key="k4")
        done = moving.walk()
        assert (done.state, done.seen, done.copied, done.verified, done.here) == ("done", 10, 8, 8, 2)
        assert (done.seen_bytes, done.copied_bytes) == (45, 38)
        assert [one.cursor for one in moving.board.written] == ["k2", "k5", "k8", "k9"]
        moving.end()
        assert len(keys(moving.new)) == 9
        assert body(moving.new, "k3") == b"new"


def test_the_next_leader_goes_on_where_the_last_one_stopped() -> None:
    with migration(page=2) as moving:
        for number in range(6):
            moving.old.put_object(Bucket=BUCKET, Key=f"k{number}", Body=b"x")
        moving.begin()
        leads = iter([True] * 8)
        moving.run(moving.walker.look(lambda: next(leads, False)))
        between = moving.board.progress[BUCKET]
        assert between.state == "walking"
        assert 0 < between.seen < 6
        done = moving.walk()
        assert (done.state, done.seen, done.copied + done.here) == ("done", 6, 6)
        assert len(moving.keys_here()) == 6


def test_without_the_progress_it_begins_anew_and_copies_nothing_twice(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    moving.begin()
    moving.walk()
    moving.board.progress.clear()
    moving.another_leader()
    again = moving.walk()
    assert (again.state, again.copied, again.here) == ("done", 0, 1)


def test_a_pause_copies_nothing_and_still_reads_through(moving: Migration) -> None:
    moving.old.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    moving.begin(paused=True)
    assert moving.walk().state == "paused"
    assert moving.keys_here() == []
    assert body(moving.new, "k") == b"x"
    moving.begin()
    assert moving.walk().state == "done"


# --- when things go wrong


def dead_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def test_an_origin_that_does_not_answer_is_503_and_never_404(
    moving: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAUSE_S", 0.01)
    moving.begin(endpoint=f"http://127.0.0.1:{dead_port()}")
    moving.new.put_object(Bucket=BUCKET, Key="here", Body=b"x")
    assert body(moving.new, "here") == b"x"
    with pytest.raises(ClientError) as caught:
        body(moving.new, "k")
    said = caught.value.response
    assert (said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"]) == (503, "SlowDown")
    assert "origin" in said["Error"]["Message"]
    assert error_of(lambda: keys(moving.new)) == (503, "SlowDown")
    put = moving.new.put_object
    assert error_of(lambda: put(Bucket=BUCKET, Key="k", Body=b"", IfNoneMatch="*")) == (503, "SlowDown")
    moving.new.delete_object(Bucket=BUCKET, Key="k")
    assert error_of(lambda: body(moving.new, "k")) == (404, "NoSuchKey")
    waits = moving.walk()
    assert waits.state == "waiting"
    assert "origin" in waits.reason


def test_a_bucket_that_is_gone_or_refused_is_503_too(moving: Migration) -> None:
    moving.begin(access_key="AKIAUNKNOWN000000000")
    assert error_of(lambda: body(moving.new, "k")) == (503, "SlowDown")
    moving.begin()
    moving.old.delete_bucket(Bucket=BUCKET)
    assert error_of(lambda: body(moving.new, "k")) == (503, "SlowDown")
    assert error_of(lambda: keys(moving.new)) == (503, "SlowDown")


async def _one(data: bytes, before: Any) -> Any:
    await before()
    yield data


def adopted(moving: Migration, before: Any) -> None:
    """A copy of "k" during which `before` happens, after everything was looked at and before the commit."""

    async def copy() -> None:
        original = Original(3, "0" * 32, 1000, {})
        await moving.engine.adopt_object(BUCKET, "k", _one(b"old", before), original, bytes(16), verify=lambda _: None)

    moving.run(copy())


def test_a_write_during_the_copy_wins(moving: Migration) -> None:
    moving.begin()

    async def write() -> None:
        await moving.engine.put_object(BUCKET, "k", _one(b"new", _nothing), 3, {})

    with pytest.raises(AlreadyHere):
        adopted(moving, write)
    assert body(moving.new, "k") == b"new"


def test_a_delete_during_the_copy_wins(moving: Migration) -> None:
    moving.begin()

    async def delete() -> None:
        await moving.engine.delete_object(BUCKET, "k")

    with pytest.raises(AlreadyHere):
        adopted(moving, delete)
    assert error_of(lambda: body(moving.new, "k")) == (404, "NoSuchKey")
    adopted_nothing = moving.keys_here()
    assert adopted_nothing == []


def test_the_end_of_the_migration_during_the_copy_wins(moving: Migration) -> None:
    moving.begin()
    end = threading.Event()

    async def over() -> None:
        from objstore.model import bucketconfig
        from objstore.model.origin import Origin

        await moving.engine.configure_bucket(BUCKET, lambda bucket: bucketconfig.without(bucket, Origin))
        end.set()

    with pytest.raises(MigrationOver):
        adopted(moving, over)
    assert end.is_set()
    assert moving.keys_here() == []


def test_a_copy_that_commits_after_the_end_is_taken_back(moving: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the commit: then a delete has left no mark."""
    moving.begin()
    registers = moving.engine.registers
    change = registers.change

    async def late(key: Any, *rest: Any, **options: Any) -> bytes:
        if key.name == b"k":
            monkeypatch.setattr(registers, "change", change)
            await moving.engine.configure_bucket(BUCKET, _without_origin)
            await moving.engine.delete_object(BUCKET, "k")
        return await change(key, *rest, **options)

    monkeypatch.setattr(registers, "change", late)
    with pytest.raises(MigrationOver):
        adopted(moving, _nothing)
    assert moving.keys_here() == []


def _without_origin(bucket: Any) -> Any:
    from objstore.model import bucketconfig
    from objstore.model.origin import Origin

    return bucketconfig.without(bucket, Origin)


async def _nothing() -> None:
    return None

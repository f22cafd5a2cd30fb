"""What has changed in a bucket since it was looked at last: its ordered index compared with a *cursor*, which remembers
of each key what its entry was. Pure.

What is promised. Each run compares every key once, by a read that sees whatever was acknowledged before the run began.
So a change is told by the first run that begins after it was acknowledged, at the latest; the key as it is then, not
every state that it was in: a key that came and went between two runs is not told at all. A cursor is replaced after its
changes were told, so a run that breaks off is repeated: at least once, of one key in the order in which its states
followed each other, of different keys in no order of time. No clock takes part.

What counts: another newest version (or delete marker), a key that is gone, older versions that were removed. What is
changed of a version, tags and locks, does not; nor does an unversioned object that was replaced by the same bytes
within one millisecond, for the index cannot tell them apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import msgspec

from objstore.inventory.rows import moment
from objstore.model.errors import InvalidRequest
from objstore.model.ids import BucketId
from objstore.model.records import ListEntry

FORMAT = 1


class CursorHead(msgspec.Struct, frozen=True):
    """The first line of a cursor: what it is about."""

    bucket: str  # name
    prefix: str = ""
    format: int = FORMAT


class Known(NamedTuple):
    """One line of a cursor. `newest`: stands for the newest version and the bucket; `versions`: how many there are."""

    key: bytes
    newest: str
    versions: int


class Change(NamedTuple):
    """`entry` None: the key is gone."""

    kind: str  # put | marked | removed | versions
    key: str
    entry: ListEntry | None = None


def known(bucket: BucketId, key: bytes, entry: ListEntry) -> Known:
    about = (entry.size, entry.etag, entry.modified_ms, entry.extra, entry.version, entry.hidden)
    digest = hashlib.blake2b(bucket + msgspec.msgpack.encode(about), digest_size=12)
    return Known(key, digest.hexdigest(), entry.versions)


def line(one: Known) -> str:
    return json.dumps([one.key.decode(), one.newest, one.versions], ensure_ascii=True) + "\n"


def head_line(head: CursorHead) -> str:
    return msgspec.json.encode(head).decode() + "\n"


def read_head(text: str, wanted: CursorHead) -> None:
    """InvalidRequest unless this is a cursor of what is wanted."""
    try:
        found = msgspec.json.decode(text, type=CursorHead)
    except msgspec.MsgspecError:
        raise InvalidRequest("the file is no cursor of `objstore bucket changes`; name another one") from None
    if found.format != FORMAT:
        raise InvalidRequest(f"the cursor has format {found.format}, this release knows {FORMAT}; begin a new one")
    if found != wanted:
        about = f"bucket {found.bucket!r}" + (f" and prefix {found.prefix!r}" if found.prefix else "")
        raise InvalidRequest(f"the cursor is about {about}; name another file")


def read_line(text: str) -> Known:
    """InvalidRequest if it is damaged."""
    try:
        key, newest, versions = msgspec.json.decode(text, type=tuple[str, str, int])
    except msgspec.MsgspecError:
        raise InvalidRequest("the cursor is damaged; delete it to begin with all that is there") from None
    return Known(key.encode(), newest, versions)


async def compare(
    before: Iterator[Known], now: AsyncIterator[tuple[bytes, ListEntry]], bucket: BucketId
) -> AsyncIterator[tuple[Change | None, Known | None]]:
    """Both in byte order of their keys. Per key what has changed, and what to remember of it."""
    old = next(before, None)
    async for key, entry in now:
        while old is not None and old.key < key:
            yield Change("removed", old.key.decode()), None
            old = next(before, None)
        new = known(bucket, key, entry)
        if old is not None and old.key == key:
            change = _difference(old, new, entry)
            old = next(before, None)
        else:
            change = Change(_kind(entry), key.decode(), entry)
        yield change, new
    while old is not None:
        yield Change("removed", old.key.decode()), None
        old = next(before, None)


def _difference(old: Known, new: Known, entry: ListEntry) -> Change | None:
    if old.newest != new.newest:
        return Change(_kind(entry), new.key.decode(), entry)
    return Change("versions", new.key.decode(), entry) if old.versions != new.versions else None


def _kind(entry: ListEntry) -> str:
    return "marked" if entry.hidden else "put"


def as_json(change: Change) -> str:
    about: dict[str, object] = {"change": change.kind, "key": change.key}
    if change.entry is not None:
        entry = change.entry
        about["version_id"] = entry.version.hex() or "null"
        about["last_modified"] = moment(entry.modified_ms)
        about["versions"] = entry.versions
        if not entry.hidden:
            about["size"], about["etag"] = entry.size, entry.etag
    return json.dumps(about, ensure_ascii=False) + "\n"

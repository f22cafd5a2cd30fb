"""What was found, in numbers that a person can compare with what should be there. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from objstore.model.records import BucketState, KeyState, ListEntry, Register, RegisterKey, Space, UploadState, decode
from objstore.repair.reading import Whole

_SAMPLE = 5


class Census(msgspec.Struct):
    """Of merged registers: each counted once, whoever holds it."""

    registers: int = 0
    buckets: int = 0
    objects: int = 0
    bytes: int = 0  # of the objects
    uploads: int = 0  # open ones
    deleted: int = 0  # keys whose last word is that they are deleted
    unreadable: int = 0  # registers that do not decode; they are brought back as they are
    names: list[str] = []  # of some buckets

    def add(self, records: Iterable[Whole]) -> None:
        for record in records:
            self.registers += 1
            try:
                self._count(record)
            except (msgspec.MsgspecError, ValueError):
                self.unreadable += 1

    def _count(self, record: Whole) -> None:
        key = RegisterKey.unpack(record.key)
        body = decode(record.state, Register).body if record.state else b""
        if key.space is Space.OBJECT:
            if body and decode(body, KeyState).versions:
                self.objects += 1
                self.bytes += decode(record.listing, ListEntry).size if record.listing else 0
            else:
                self.deleted += 1
        elif key.space is Space.BUCKET and body and decode(body, BucketState).id:
            self.buckets += 1
            if len(self.names) < _SAMPLE:
                self.names = sorted([*self.names, key.name.decode(errors="replace")])
        elif key.space is Space.UPLOAD and body:
            self.uploads += decode(body, UploadState).status in ("open", "completing")

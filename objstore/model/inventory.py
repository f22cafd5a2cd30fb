"""Inventory configurations of a bucket: what reports are wanted, where to, how often; and when the last was written."""

from __future__ import annotations

import msgspec

from objstore.model.formats import json_decoder

RULES_MAX = 100  # of one bucket
DAY_MS = 86_400_000
PERIODS_DAYS = {"Daily": 1, "Weekly": 7}


class InventoryRule(msgspec.Struct, frozen=True, array_like=True):
    id: str
    destination: str  # name of the bucket that gets the reports
    frequency: str  # Daily | Weekly
    enabled: bool = True
    destination_prefix: str = ""
    prefix: str = ""  # of the keys that are listed
    all_versions: bool = False
    fields: tuple[str, ...] = ()  # optional ones, in the order in which they were named
    account: str = ""  # kept to be shown again

    def period_ms(self, day_ms: int = DAY_MS) -> int:
        return PERIODS_DAYS[self.frequency] * day_ms


class BucketInventory(msgspec.Struct, frozen=True, array_like=True):
    rules: tuple[InventoryRule, ...] = ()

    def find(self, id: str) -> InventoryRule | None:
        return next((rule for rule in self.rules if rule.id == id), None)

    def with_rule(self, new: InventoryRule) -> BucketInventory:
        """In place of the one with its id, else behind the others; they are in the order of their ids."""
        others = [rule for rule in self.rules if rule.id != new.id]
        return BucketInventory(tuple(sorted((*others, new), key=lambda rule: rule.id)))

    def without(self, id: str) -> BucketInventory:
        return BucketInventory(tuple(rule for rule in self.rules if rule.id != id))


class Written(msgspec.Struct, frozen=True):
    """What became of a configuration. Times 0: never."""

    began_ms: int = 0  # of the last attempt
    done_ms: int = 0  # of the last report: when its walk began
    rows: int = 0
    files: int = 0
    manifest: str = ""  # key of the last report's
    error: str = ""  # why the last attempt failed


class WrittenReports(msgspec.Struct, frozen=True):
    """Of one bucket, by the ids of its configurations. Under `inventory/` + id of the bucket, JSON."""

    reports: dict[str, Written] = {}
    format: int = 1


encode_written = msgspec.json.Encoder().encode
decode_written = json_decoder(WrittenReports, "what is known of inventory reports", known=1)

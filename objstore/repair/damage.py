"""Which objects are hurt, where, why, and what will happen: the worst of them, in words for people."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping, Sequence

from objstore.model.ids import BucketId, NodeId
from objstore.model.records import RegisterKey, Space, split_upload_name
from objstore.model.survey import Damage, DamageKind, DamagePage, HurtShard, Why
from objstore.repair.dispatcher import Dispatcher, Parked
from objstore.repair.inventory import Inventory, segments_of
from objstore.repair.tally import Harm

LISTED_MAX = 500
PER_PAGE = 100
SHARDS_LISTED = 8  # per object
AT_ONCE = 20_000  # between two turns of the event loop


def printable(raw: bytes) -> str:
    """What is not UTF-8, or not to be printed, is escaped."""
    text = raw.decode(errors="backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def name_of(inventory: Inventory, raw: bytes) -> tuple[str, str]:
    """(bucket, key) of a register."""
    key = RegisterKey.unpack(raw)
    bucket = inventory.bucket_names.get(BucketId(key.bucket), f"bucket {key.bucket.hex()}")
    if key.space is Space.PART:
        number = int.from_bytes(key.name[16:], "big")
        return bucket, f"part {number} of upload {key.name[:16].hex()}"
    if key.space is Space.UPLOAD:
        name, upload = split_upload_name(key.name)
        return bucket, f"{printable(name)} (upload {upload.hex()})"
    return bucket, printable(key.name)


def item_name(inventory: Inventory, segment: bytes) -> str:
    """ "bucket/key" of the object that a segment belongs to."""
    blob = inventory.blob(segment)
    users = inventory.users_of(blob.id) if blob is not None else ()
    return "/".join(name_of(inventory, users[0])) if users else segment.hex()


async def pages(inventory: Inventory, dispatcher: Dispatcher, as_of_ms: int, now: float) -> list[DamagePage]:
    """At least one; together the LISTED_MAX worst."""
    harmed = inventory.tally.harmed()
    worst: list[tuple[int, bytes]] = []
    for first in range(0, len(harmed), AT_ONCE):
        some = ((_rank(inventory, key), key) for key in harmed[first : first + AT_ONCE])
        worst = heapq.nsmallest(LISTED_MAX, [*worst, *some])
        await asyncio.sleep(0)
    items = [_describe(inventory, dispatcher, key, place, now) for place, (_, key) in enumerate(worst, 1)]
    groups = [items[first : first + PER_PAGE] for first in range(0, max(1, len(items)), PER_PAGE)]
    return [DamagePage(as_of_ms, len(harmed), group) for group in groups]


def _rank(inventory: Inventory, key: bytes) -> int:
    verdict = inventory.tally.verdict(key)
    if verdict is None:
        return inventory.code.shards
    return verdict[0] + (verdict[1] is Harm.MISPLACED)


def _describe(inventory: Inventory, dispatcher: Dispatcher, key: bytes, place: int, now: float) -> Damage:
    bucket, name = name_of(inventory, key)
    code = inventory.code
    record = inventory.record(key)
    flawed = [
        segment
        for ref in (record.blobs if record is not None else ())
        for segment in segments_of(ref)
        if segment in inventory.flaws and inventory.flaws[segment].debt
    ]
    if not flawed:
        return Damage(
            bucket, name, "metadata", code.shards, code.shards, next="metadata replicas are brought up to date"
        )
    worst = min(flawed, key=lambda segment: inventory.flaws[segment].rank)
    flaw = inventory.flaws[worst]
    blob = inventory.blob(worst)
    shards = blob.k + blob.m if blob is not None else code.shards
    hurt: list[HurtShard] = []
    total = 0
    names = {node.id: node.name for node in inventory.topology.map.nodes}
    for segment in flawed:
        found = hurt_shards(inventory, segment, names)
        total += len(found)
        hurt += found[: SHARDS_LISTED - len(hurt)]
    kind = _kind(flaw.readable, flaw.harm, blob.k if blob is not None else code.k)
    return Damage(bucket, name, kind, flaw.readable, shards, hurt, total, _next(dispatcher, worst, names, place, now))


def _kind(readable: int, harm: Harm, k: int) -> DamageKind:
    if readable < k:
        return "unreadable"
    if harm is Harm.MISPLACED:
        return "misplaced"
    return "minimum" if readable == k else "reduced"


def hurt_shards(inventory: Inventory, segment: bytes, names: Mapping[NodeId, str]) -> list[HurtShard]:
    """Shards that are not where they belong, or nowhere."""
    blob = inventory.blob(segment)
    if blob is None:
        return []
    number = int.from_bytes(segment[16:], "big")
    copies = inventory.shards_listed(segment)
    owners = inventory.topology.data_owners(inventory.partition_of(segment))[: blob.k + blob.m]
    found = []
    for shard, home in enumerate(owners):
        why = _why(inventory, shard, home, copies)
        if why is not None:
            found.append(HurtShard(number, shard, names.get(why[1], why[1]), why[0]))
    return found


def _why(
    inventory: Inventory, shard: int, home: NodeId, copies: Sequence[tuple[int, NodeId]]
) -> tuple[Why, NodeId] | None:
    """And the node that it is about."""
    holders = [node for one, node in copies if one == shard]
    readable = [node for node in holders if node in inventory.live]
    if not readable and holders:
        return "node down", holders[0]
    if not readable:
        return ("missing" if home in inventory.live else "node down"), home
    if home in readable or home not in inventory.live:
        others = {node for one, node in copies if one != shard and node in inventory.live}
        return ("crowded", readable[0]) if set(readable) <= others else None
    return "misplaced", home


def _next(dispatcher: Dispatcher, segment: bytes, names: Mapping[NodeId, str], place: int, now: float) -> str:
    failure = dispatcher.failures.get(segment)
    if failure is not None:
        times = "once" if failure.attempts == 1 else f"{failure.attempts} times"
        return f"failed {times}, again in {max(0.0, failure.again_at - now):.0f} s: {failure.error}"
    if dispatcher.is_running(segment):
        return "being repaired now"
    parked = dispatcher.why_parked(segment)
    if parked is Parked.HOPELESS:
        rescuers = sorted(names.get(node, node) for node in dispatcher.rescuers_of(segment))
        if rescuers:
            return f"{' '.join(rescuers)} must return"
        return "too many shards are gone: restore it from elsewhere, or delete it"
    if parked is Parked.BLOCKED:
        return "no node is left for a shard: start or add a node"
    if parked is Parked.NO_ROOM:
        full = " ".join(sorted(names.get(node, node) for node in dispatcher.full))
        return f"waits for room on {full}: delete objects or add nodes"
    if parked is Parked.WAITING:
        return "waits for its node to return; `objstore repair now` does not wait"
    return f"queued, position {place}"

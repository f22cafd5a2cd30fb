"""Registers as repair reads them: ballots and whole records by pull, states without inline data by scan; and what they
mean."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from objstore.engine.calls import Calls, ask
from objstore.engine.uploadstate import ENDED
from objstore.model import bucketconfig, limits
from objstore.model.errors import ObjstoreError, StaleEpoch
from objstore.model.ids import NodeId
from objstore.model.inventory import BucketInventory
from objstore.model.notification import waiting
from objstore.model.quota import BucketQuota
from objstore.model.records import BucketState, KeyState, PartState, Register, RegisterKey, Space, UploadState, decode
from objstore.model.usage import Use
from objstore.register.forgetting import Look
from objstore.repair.record import Record
from objstore.repair.usage import use_of
from objstore.wire.messages import (
    RecPulled,
    RegInstall,
    RegPull,
    RegPulled,
    RegRead,
    RegScan,
    RegScanned,
    RegStale,
    RegState,
)

log = logging.getLogger(__name__)


class StateOf(NamedTuple):
    key: bytes
    ballot: bytes
    state: bytes


class Whole(NamedTuple):
    """A register as one acceptor holds it."""

    key: bytes
    ballot: bytes
    listing: bytes
    state: bytes
    data: bytes


def installing(partition: int, tag: int, records: Sequence[Whole]) -> tuple[RegInstall, bytes]:
    """The request that hands these over, and its payload."""
    request = RegInstall(
        partition,
        tag,
        [one.key for one in records],
        b"".join(one.ballot for one in records),
        [one.listing for one in records],
        [one.state for one in records],
        [len(one.data) for one in records],
    )
    return request, b"".join(one.data for one in records)


async def look_at(calls: Calls, node: NodeId, partition: int) -> Look:
    """Ballots and promises of all registers of a partition on one node."""
    ballots: dict[bytes, tuple[bytes, bytes]] = {}
    first: RegPulled | None = None
    after = b""
    while True:
        request = RegPull(partition, after, limits.SCAN_RECORDS_MAX, ballots_only=True, promises=True)
        page, _ = await ask(calls, node, request, RegPulled, timeout_s=limits.RPC_TIMEOUT_S)
        first = first or page
        promises = page.promises or page.ballots
        for i, key in enumerate(page.keys):
            ballots[key] = (page.ballots[16 * i : 16 * i + 16], promises[16 * i : 16 * i + 16])
        if not page.more or not page.keys:
            return Look(ballots, first.fence, first.floor)
        after = page.keys[-1]


async def scan_states(
    calls: Calls, node: NodeId, partition: int, tag: int, keys: Sequence[bytes], *, sparse: int
) -> AsyncIterator[list[StateOf]]:
    """Pages of the states of these registers on one node, now: perhaps newer than when they were listed, absent if
    gone."""
    groups: dict[bytes, list[bytes]] = {}
    for key in sorted(keys):
        groups.setdefault(key[:17], []).append(key)  # bucket and space
    for prefix, members in groups.items():
        if len(members) <= sparse:
            for key in members:
                yield [await _read_state(calls, node, partition, tag, key)]
        else:
            async for page in _scan(calls, node, partition, tag, prefix, members):
                yield page


async def _read_state(calls: Calls, node: NodeId, partition: int, tag: int, key: bytes) -> StateOf:
    request = RegRead(partition, tag, key, with_data=False)
    reply, _ = await calls.call(node, request, timeout_s=limits.RPC_TIMEOUT_S)
    if isinstance(reply, RegStale):
        raise StaleEpoch(f"partition {partition} is fenced at {reply.tag}")
    if not isinstance(reply, RegState):
        raise ObjstoreError(f"node {node} answered a read with {type(reply).__name__}")
    return StateOf(key, reply.accepted, reply.state)


async def _scan(
    calls: Calls, node: NodeId, partition: int, tag: int, prefix: bytes, members: Sequence[bytes]
) -> AsyncIterator[list[StateOf]]:
    wanted = set(members)
    start, end = members[0][17:], members[-1][17:] + b"\x00"
    while True:
        request = RegScan(partition, tag, prefix[:16], prefix[16], start, end, limits.SCAN_RECORDS_MAX, with_state=True)
        reply, _ = await calls.call(node, request, timeout_s=limits.RPC_TIMEOUT_S)
        if isinstance(reply, RegStale):
            raise StaleEpoch(f"partition {partition} is fenced at {reply.tag}")
        if not isinstance(reply, RegScanned):
            raise ObjstoreError(f"node {node} answered a scan with {type(reply).__name__}")
        ballots, states = reply.ballots, reply.states
        keys = [prefix + name for name in reply.names]
        yield [StateOf(key, ballots[16 * i : 16 * i + 16], states[i]) for i, key in enumerate(keys) if key in wanted]
        if not reply.more or not reply.names:
            return
        start = reply.names[-1] + b"\x00"


async def pull_whole(
    calls: Calls, node: NodeId, partition: int, held: Sequence[bytes], wanted: Sequence[bytes]
) -> AsyncIterator[list[Whole]]:
    """Pages of whole registers. held: all keys of the partition on that node, sorted; wanted: some of them, sorted.

    Neighbours are pulled together, so that copying everything costs one call per page.
    """
    place = {key: i for i, key in enumerate(held)}
    position = 0
    floor = b""  # everything up to here has been seen
    while position < len(wanted):
        first = place[wanted[position]]
        run = 1
        while position + run < len(wanted) and run < limits.SCAN_RECORDS_MAX:
            if place[wanted[position + run]] != first + run:
                break
            run += 1
        after = max(floor, held[first - 1] if first else b"")
        page, data = await ask(calls, node, RegPull(partition, after, run), RegPulled, timeout_s=limits.RPC_TIMEOUT_S)
        got = [one for one in records_of(page, data) if one.key in place]
        if got:
            yield got
        floor = page.keys[-1] if page.keys else wanted[position + run - 1]  # none: they are gone
        while position < len(wanted) and wanted[position] <= floor:
            position += 1


def records_of(page: RegPulled | RecPulled, data: bytes | memoryview) -> list[Whole]:
    """A page and its payload, taken apart."""
    found = []
    offset = 0
    for i, key in enumerate(page.keys):
        end = offset + page.data_lengths[i]
        ballot = page.ballots[16 * i : 16 * i + 16]
        found.append(Whole(key, ballot, page.listings[i], page.states[i], bytes(data[offset:end])))
        offset = end
    return found


def read_record(key: bytes, ballot: bytes, state: bytes) -> Record:
    """What the register refers to. One that cannot be decoded refers to nothing, and is reported."""
    try:
        body = decode(state, Register).body if state else b""
        return _meaning(RegisterKey.unpack(key), ballot, body) if body else Record(ballot, empty=True)
    except (msgspec.DecodeError, ValueError) as error:
        log.error("register %s cannot be read: %s", key.hex(), error)
        return Record(ballot)


def _meaning(key: RegisterKey, ballot: bytes, body: bytes) -> Record:
    if key.space is Space.OBJECT:
        state = decode(body, KeyState)
        blobs = tuple(blob for version in state.versions for blob in version.blobs)
        counted = any(not version.marker for version in state.versions)
        told = waiting(state.events)
        return Record(
            ballot,
            counted,
            blobs,
            state.retired,
            attempts=state.attempts,
            use=use_of(state),
            waiting=told,
            moves=state.moves,
            buried=bool(state.gone),
        )
    if key.space is Space.PART:
        part = decode(body, PartState)
        use = Use(upload_bytes=part.size)
        return Record(ballot, False, part.blobs, part.retired, upload=key.name[:16], at_ms=part.modified_ms, use=use)
    if key.space is Space.UPLOAD:
        upload = decode(body, UploadState)
        ended = upload.status in ENDED
        blobs = () if ended else upload.blobs
        id, at_ms = key.name[-16:], upload.ended_ms
        return Record(ballot, False, blobs, (), upload=id, ended=ended, at_ms=at_ms, use=Use(uploads=1))
    if key.space is Space.IDENTITY:
        return Record(ballot, False)
    bucket = decode(body, BucketState)
    quota = bucketconfig.get(bucket.config, BucketQuota)
    reports = bucketconfig.get(bucket.config, BucketInventory) is not None
    return Record(ballot, ended_buckets=bucket.ended, bucket=bucket.id, quota=quota, reports=reports)

"""What must hold of a simulated cluster once everything has healed: nothing lost, nothing left over, nothing stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

from objstore.cluster.port import MAP_KEY
from objstore.engine.keystate import state_of
from objstore.engine.movestate import homes_of, moves_of
from objstore.model.clock import ZERO
from objstore.model.cluster import decode_map
from objstore.model.errors import Corrupt, NotFound
from objstore.model.ids import SYSTEM_BUCKET, NodeId
from objstore.model.manifest import BlobRef
from objstore.model.records import (
    BucketState,
    KeyState,
    PartState,
    Register,
    RegisterKey,
    Space,
    UploadState,
    decode,
)
from objstore.node import index, register_rows
from objstore.node.journal import files_in
from objstore.node.journal_format import value_length
from objstore.node.lost import Life
from objstore.placement.topology import Topology
from objstore.wire.messages import FragVerify
from tests.sim.cluster import PARTITION_BITS, SimCluster, SimNode

HOUR_MS = 3_600_000
GARBAGE_S = 90.0  # virtual seconds, once every delay has passed
IDLE_S = 140.0  # longer than a node keeps a silent stream
SHOWN = 8  # of each kind of leftovers


class Held(NamedTuple):
    ballot: bytes
    body: bytes


def topology_of(cluster: SimCluster) -> Topology:
    found = cluster.peek(MAP_KEY)
    assert found is not None
    return Topology(decode_map(found))


def members(cluster: SimCluster) -> list[SimNode]:
    return [machine for machine in cluster.machines if machine.up and machine.member]


# --- fragments --------------------------------------------------------------------------------------------


async def verify_fragments(cluster: SimCluster, is_expected: Callable[[SimNode, bytes], bool]) -> tuple[int, list[str]]:
    """Every member reads all it holds. Returns how many were damaged, and those that nobody had damaged."""
    damaged, wrong = 0, []
    for machine in members(cluster):
        service = machine.service
        assert service is not None
        for fragment, _ in machine.kv.scan(index.FRAG, b""):
            try:
                await service.handle(FragVerify(fragment), b"")
            except NotFound:
                continue  # deleted since
            except Corrupt as error:
                damaged += 1
                if not is_expected(machine, fragment):
                    wrong.append(f"{machine.name} held a damaged fragment: {error}")
    return damaged, wrong


def held_fragments(cluster: SimCluster) -> dict[tuple[NodeId, bytes], None]:
    """(node id, fragment)"""
    return {
        (machine.service.id, fragment): None
        for machine in members(cluster)
        if machine.service is not None
        for fragment, _ in machine.kv.scan(index.FRAG, b"")
    }


def homes(topology: Topology, blobs: list[BlobRef]) -> dict[tuple[NodeId, bytes], None]:
    """Where every shard of these blobs should be."""
    found: dict[tuple[NodeId, bytes], None] = {}
    for ref in blobs:
        for segment in range(ref.segments):
            owners = topology.data_owners(topology.partition_of_blob(ref.id, segment))
            for shard, owner in enumerate(owners):
                found[owner, ref.id + segment.to_bytes(4, "big") + bytes((shard,))] = None
    return found


# --- registers --------------------------------------------------------------------------------------------


def written_on(machine: SimNode) -> Iterator[tuple[bytes, register_rows.Held]]:
    """(place, register) of all that was accepted and is durable, with the rows that wait behind the journal."""
    assert machine.service is not None
    commits = machine.service._commits
    places = {row.place: None for row in register_rows.all_rows(machine.rows)}
    for (table, key), raw in commits.ahead.items():
        if table == register_rows.REG and raw is not None:
            places[register_rows.unpack(key, raw).place] = None
    for place in places:
        held = register_rows.load(machine.rows, place, ahead=commits.ahead)
        if held.acceptor.accepted != ZERO:
            yield place, held


def registers_on(machine: SimNode) -> Iterator[tuple[int, bytes, Held]]:
    """(partition, key, what is held) of everything written."""
    for place, held in written_on(machine):
        body = decode(held.state, Register).body if held.state else b""
        yield int.from_bytes(place[:2], "big"), place[2:], Held(held.acceptor.accepted.pack(), body)


def replicas(cluster: SimCluster, topology: Topology) -> dict[int, dict[NodeId, dict[bytes, Held]]]:
    """By partition, by owner."""
    view = topology.map.current
    found: dict[int, dict[NodeId, dict[bytes, Held]]] = {}
    for partition in range(topology.map.partitions):
        found[partition] = {node: {} for node in topology.meta_owners(partition, view)}
    for machine in members(cluster):
        assert machine.service is not None
        for partition, key, held in registers_on(machine):
            if machine.service.id in found[partition]:
                found[partition][machine.service.id][key] = held
    return found


def disagreements(copies: dict[int, dict[NodeId, dict[bytes, Held]]]) -> list[str]:
    wrong = []
    for partition, by_node in copies.items():
        for key in dict.fromkeys(key for held in by_node.values() for key in held):
            ballots = {node: held[key].ballot.hex()[:12] if key in held else "-" for node, held in by_node.items()}
            if len(set(ballots.values())) > 1:
                wrong.append(f"replicas of register {key[16:].hex()} in partition {partition} differ: {ballots}")
    return wrong


def journal_differs(machine: SimNode, cluster_id: str) -> list[str]:
    """Registers of which the journal of this life says something else than the rows (INV-12)."""
    assert machine.service is not None
    node_id = machine.service.id
    life = Life(node_id, files_in(machine.disk).get(node_id, []), 1 << PARTITION_BITS)
    life.replay(machine.disk, cluster_id)
    told = {
        register_rows.place_of(partition, key): (place.ballot, *life.read(machine.disk, place)[4:])
        for partition, places in life.places.items()
        for key, place in places.items()
    }
    written = dict(written_on(machine))
    held = {place: (one.acceptor.accepted.pack(), *one[1:]) for place, one in written.items()}
    live = sum(value_length(len(place) - 2, *map(len, one[1:])) for place, one in written.items())
    if machine.service._registers.live_bytes != live:
        counted = machine.service._registers.live_bytes
        return [f"{machine.name}: counts {counted} bytes of its journal as live, the rows say {live}"]
    wrong = [f"{machine.name}: {life.damage.places} places of its journal are damaged"] if life.damage.places else []
    differing = sorted(place for place in {**told, **held} if told.get(place) != held.get(place))
    return wrong + [f"{machine.name}: the journal differs for {place!r}" for place in differing]


def chosen(copies: dict[int, dict[NodeId, dict[bytes, Held]]]) -> dict[bytes, bytes]:
    """Key -> body, of what the replicas agree on (or the newest of them)."""
    newest: dict[bytes, Held] = {}
    for by_node in copies.values():
        for held in by_node.values():
            for key, one in held.items():
                if key not in newest or one.ballot > newest[key].ballot:
                    newest[key] = one
    return {key: held.body for key, held in newest.items()}


def referred(registers: dict[bytes, bytes]) -> tuple[list[BlobRef], set[bytes], list[str]]:
    """The blobs that must be there; those that may (replaced parts of open uploads); and the registers that should
    have given up what they name."""
    blobs: list[BlobRef] = []
    spared: set[bytes] = set()
    left: list[str] = []
    uploads: dict[tuple[bytes, bytes], UploadState] = {}
    buckets: set[bytes] = {SYSTEM_BUCKET}
    for raw, body in registers.items():
        key = RegisterKey.unpack(raw)
        if key.space is Space.UPLOAD and body:
            uploads[key.bucket, key.name[-16:]] = decode(body, UploadState)
        elif key.space is Space.BUCKET and body:
            buckets.add(decode(body, BucketState).id)
        elif not body:
            left.append(f"the tombstone of {key.space.name} {key.name!r} is still there")
    for raw, body in registers.items():
        key = RegisterKey.unpack(raw)
        if key.bucket not in buckets and body:
            left.append(f"{key.space.name} {key.name!r} is still there, but its bucket is not")
        elif key.space is Space.OBJECT and body:
            state = decode(body, KeyState)
            blobs += [blob for version in state.versions for blob in version.blobs]
            left += [f"object {key.name!r} still names retired blob {old.blob.id.hex()}" for old in state.retired]
            left += _moving(key, state, registers)
        elif key.space is Space.PART and body:
            upload = uploads.get((key.bucket, key.name[:16]))
            if upload is None or upload.status in ("completed", "aborted"):
                left.append(f"part {key.name.hex()} of an upload that is over: {upload.status if upload else 'gone'}")
                continue
            part = decode(body, PartState)
            blobs += part.blobs
            spared |= {old.blob.id for old in part.retired}
    return blobs, spared, left


def _moving(key: RegisterKey, state: KeyState, registers: dict[bytes, bytes]) -> list[str]:
    """What renames have left behind, and what is borrowed without being lent (INV-24)."""
    moves = moves_of(state)
    left = [f"a rename of {key.name!r} is still on its way: {one}" for one in (moves.leaving, *moves.arrived) if one]
    for lent in moves.lent:
        named = {blob.id for one in _state(key, lent.to, registers).versions for blob in one.blobs}
        if not named.issuperset(blob.id for blob in lent.blobs):
            left.append(f"object {key.name!r} has still lent to {lent.to!r} what that does not name")
    for version in state.versions:
        for blob, home in zip(version.blobs, homes_of(version, key.name), strict=True):
            lents = moves_of(_state(key, home, registers)).lent
            if home != key.name and not any(one.to == key.name and blob in one.blobs for one in lents):
                left.append(f"object {key.name!r} names a blob of {home!r}, which has not lent it")
    return left


def _state(beside: RegisterKey, name: bytes, registers: dict[bytes, bytes]) -> KeyState:
    return state_of(registers.get(beside._replace(name=name).pack(), b""))


def named_by(registers: dict[bytes, bytes]) -> dict[bytes, str]:
    """Blob id -> what names it, to be shown."""
    found: dict[bytes, str] = {}
    for raw, body in registers.items():
        key = RegisterKey.unpack(raw)
        if key.space is Space.OBJECT and body:
            state = decode(body, KeyState)
            found |= {blob.id: f"object {key.name!r}" for version in state.versions for blob in version.blobs}
        elif key.space is Space.PART and body:
            found |= {blob.id: f"part {key.name.hex()}" for blob in decode(body, PartState).blobs}
    return found


# --- the whole --------------------------------------------------------------------------------------------


async def leftovers(cluster: SimCluster) -> list[str]:
    """Fragments that are missing, surplus or away from home; replicas that differ; garbage that is still named."""
    topology = topology_of(cluster)
    copies = replicas(cluster, topology)
    registers = chosen(copies)
    blobs, spared, left = referred(registers)
    owner, wanted = named_by(registers), homes(topology, blobs)
    held = {place: None for place in held_fragments(cluster) if place[1][:16] not in spared}
    names = {machine.service.id: machine.name for machine in members(cluster) if machine.service is not None}
    missing = [
        f"{names.get(node, node)} lacks {_show(one)} of {owner.get(one[:16])}"
        for node, one in wanted
        if (node, one) not in held
    ]
    surplus = [f"{names[node]} keeps {_show(one)} for nothing" for node, one in held if (node, one) not in wanted]
    found: list[str] = []
    for kind in (disagreements(copies), left, missing, surplus):
        found += kind[:SHOWN] + ([f"... and {len(kind) - SHOWN} more like it"] if len(kind) > SHOWN else [])
    return found


async def make_old(cluster: SimCluster) -> None:
    """Let every delay pass: for new repairers all that clients wrote, by whatever clock, is old."""
    for process in [process for process in cluster.clocks if process.startswith("repairer")]:
        cluster.stop(process)
        cluster.clock(process).skew_ms = 54 * HOUR_MS
        await cluster.start(process)


async def collected(cluster: SimCluster) -> list[str]:
    """Wait until what is on the disks is what the registers name. [] once it is."""
    end = cluster.loop.time() + GARBAGE_S
    while True:
        left = await leftovers(cluster)
        if not left or cluster.loop.time() > end:
            return left
        await asyncio.sleep(2.0)


async def stuck(cluster: SimCluster) -> list[str]:
    """Ends everything but the nodes; then they must come to rest: no stream, no claim, no reserved space."""
    for process in list(cluster.loop.tasks_of):
        if process.startswith(("gateway", "repairer", "operator")):
            cluster.stop(process)
    for machine in cluster.machines:
        if machine.heartbeat is not None:
            await machine.heartbeat.close()
    await asyncio.sleep(IDLE_S)
    wrong: list[str] = []
    for machine in members(cluster):
        service = machine.service
        assert service is not None
        if len(service._streams):
            wrong.append(f"{machine.name}: {len(service._streams)} streams are open for ever")
        if service._volumes.reserved_bytes:
            wrong.append(f"{machine.name}: {service._volumes.reserved_bytes} bytes are reserved for nobody")
        budget = service._fragments.budget
        if budget._free != budget._bytes_max or service._fragments.claims._busy:
            wrong.append(f"{machine.name}: something holds its payload budget or claims a fragment for ever")
        kept = sum(-(-extent.length // 4096) * 4096 for extent in index.extents(machine.rows))
        wrong += journal_differs(machine, cluster.cluster_id)
        if service._volumes.kept_bytes != kept:
            wrong.append(f"{machine.name}: counts {service._volumes.kept_bytes} bytes as used, the index says {kept}")
    return wrong


def _show(fragment: bytes) -> str:
    return f"blob {fragment[:16].hex()} segment {int.from_bytes(fragment[16:20], 'big')} shard {fragment[20]}"

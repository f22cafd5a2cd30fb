"""What an operator does to a simulated cluster: adds nodes and drains them, while everything else goes on.

The map is changed as the repairer changes it, by the same Transition, which the leading repairer then goes on with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from objstore.cluster.directory import Directory
from objstore.cluster.port import MAP_KEY
from objstore.engine.peers import Peers
from objstore.engine.registers import Registers
from objstore.model.cluster import ClusterMap, Node, decode_map
from objstore.model.errors import ObjstoreError
from objstore.model.records import RegisterKey
from objstore.placement.layout import compute_layout
from objstore.register.change import Outcome
from objstore.repair.controller import room_for_out
from objstore.repair.transition import Transition, Versioned
from tests.sim.cluster import SimCluster, SimNode, SimRandom
from tests.sim.loop import in_process
from tests.sim.network import SimTransport

NAME = "operator"
PATIENCE_S = 40.0  # then the plan is given up


async def add(cluster: SimCluster, machine: SimNode) -> bool:
    """Give a live spare its share. False: it was given up, and `has_share` knows what came of it."""

    def wanted(now: ClusterMap) -> list[Node] | None:
        service = machine.service
        if service is None:
            return None
        others = [node for node in now.nodes if node.id != service.id]
        return [*others, Node(service.id, machine.name, machine.zone, 1 << 30)]

    return await _change(cluster, wanted)


async def drain(cluster: SimCluster, machine: SimNode) -> bool:
    """Take a member's share away. False: as above. The node may be switched off once the layout holds."""

    def wanted(now: ClusterMap) -> list[Node] | None:
        left = [node for node in now.nodes if node.name != machine.name]
        return left if len(left) >= now.code.nodes_min else None

    return await _change(cluster, wanted)


async def has_share(cluster: SimCluster, machine: SimNode) -> bool:
    """Whether the machine is a member, once no layout change is under way."""
    while True:
        found = cluster.peek(MAP_KEY)
        if found is not None and (now := decode_map(found)).next is None:
            return any(node.name == machine.name for node in now.nodes)
        await asyncio.sleep(0.5)


async def _change(cluster: SimCluster, wanted: Callable[[ClusterMap], list[Node] | None]) -> bool:
    task: asyncio.Task[bool] = in_process(NAME, cluster.loop.create_task, _publish(cluster, wanted))
    return await task


async def _publish(cluster: SimCluster, wanted: Callable[[ClusterMap], list[Node] | None]) -> bool:
    clock, coordinator = cluster.clock(NAME), cluster.coordinator(NAME)
    directory = Directory(coordinator, clock)
    directory.start()
    peers = Peers(directory, SimTransport(cluster.network, NAME), clock)
    registers = Registers(peers, clock, SimRandom(cluster.seed + 7))

    async def settle(key: RegisterKey) -> None:
        await registers.change(key, lambda body: Outcome())

    transition = Transition(peers, coordinator, settle)
    end = clock.monotonic() + PATIENCE_S
    try:
        while clock.monotonic() < end:
            try:
                done = await _attempt(transition, coordinator, directory, wanted)
                if done is not None:
                    return done
            except ObjstoreError:
                pass  # some process is away
            await asyncio.sleep(0.5)
        return False
    finally:
        await directory.close()
        await registers.close()


async def _attempt(
    transition: Transition,
    coordinator: object,
    directory: Directory,
    wanted: Callable[[ClusterMap], list[Node] | None],
) -> bool | None:
    """None: not now. False: never."""
    entry = await coordinator.get(MAP_KEY)  # type: ignore[attr-defined]
    if entry is None:
        return None
    await directory.refresh()
    now = decode_map(entry.value)
    if now.next is not None:
        return None
    nodes = wanted(now)
    if nodes is None:
        return False
    if {node.id for node in nodes} == {node.id for node in now.nodes}:
        return True  # by an earlier attempt whose answer was lost
    layout = compute_layout(nodes, now.code, now.partition_bits, now.current.layout)
    known = {node.id for node in now.nodes}
    widened = msgspec.structs.replace(now, nodes=(*now.nodes, *(node for node in nodes if node.id not in known)))
    out = [node for node in now.current.out if node in layout.nodes]
    before = Versioned(widened, entry.revision)
    step = await transition.begin(before, layout, out, room_for_out(now))
    return True if step.now.revision != entry.revision else None

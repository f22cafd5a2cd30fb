"""What an operator does to a simulated cluster: adds, drains, replaces and removes nodes, while all else goes on.

By the same calls as `objstore node` and `objstore plan`. Answers may be lost, and the operator may be killed between
any two steps; what it has applied goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from objstore.cluster import topology
from objstore.cluster.port import MAP_KEY, Coordinator
from objstore.cluster.topology import Outlook
from objstore.model.cluster import ClusterMap, decode_map
from objstore.model.errors import Conflict, InvalidRequest, ObjstoreError
from objstore.model.ids import NodeId
from objstore.model.plan import Add, Change, Drain, Remove, Replace
from tests.sim.cluster import SimCluster, SimNode
from tests.sim.loop import in_process

NAME = "operator"
PATIENCE_S = 40.0  # then the plan is given up


async def add(cluster: SimCluster, machine: SimNode) -> None:
    """Give a live spare its share. Whether it has one: `has_share`."""
    await _do(cluster, lambda seen: Add(*_live(machine)), lambda now: _has_share(now, machine))


async def drain(cluster: SimCluster, machine: SimNode) -> None:
    """Take a member's share away."""
    await _do(cluster, lambda seen: Drain(*_member(seen, machine)), lambda now: not _has_share(now, machine))


async def replace(cluster: SimCluster, old: SimNode, new: SimNode) -> None:
    await _do(
        cluster,
        lambda seen: Replace(*_member(seen, old), *_live(new)),
        lambda now: _has_share(now, new) and not _has_share(now, old),
    )


async def remove(cluster: SimCluster, machine: SimNode) -> None:
    """Let go of a member. It stays one if it is not allowed to leave in time."""
    await _do(cluster, lambda seen: Remove(*_member(seen, machine)), lambda now: not _is_member(now, machine))


async def has_share(cluster: SimCluster, machine: SimNode) -> bool:
    """Once no layout change is under way."""
    return _has_share(await _settled(cluster), machine)


async def is_member(cluster: SimCluster, machine: SimNode) -> bool:
    """As above; drained ones are members too."""
    return _is_member(await _settled(cluster), machine)


async def _settled(cluster: SimCluster) -> ClusterMap:
    while True:
        found = cluster.peek(MAP_KEY)
        if found is not None and (now := decode_map(found)).next is None:
            return now
        await asyncio.sleep(0.5)


def _is_member(now: ClusterMap, machine: SimNode) -> bool:
    return any(node.name == machine.name for node in now.nodes)


def _has_share(now: ClusterMap, machine: SimNode) -> bool:
    return any(node.name == machine.name and node.id in now.newest.layout.nodes for node in now.nodes)


def _live(machine: SimNode) -> tuple[NodeId, str]:
    if machine.service is None:
        raise InvalidRequest(f"{machine.name} is down")
    return machine.service.id, machine.name


def _member(seen: Outlook, machine: SimNode) -> tuple[NodeId, str]:
    found = [node for node in seen.map.nodes if node.name == machine.name]
    if not found:
        raise InvalidRequest(f"{machine.name} is no member")
    return found[0].id, machine.name


async def _do(cluster: SimCluster, change: Callable[[Outlook], Change], reached: Callable[[ClusterMap], bool]) -> None:
    await as_operator(cluster, _carry_through(cluster, change, reached))


async def as_operator(cluster: SimCluster, work: Coroutine[None, None, None]) -> None:
    task: asyncio.Task[None] = in_process(NAME, cluster.loop.create_task, work)
    await asyncio.wait([task])  # it may be killed
    if not task.cancelled():
        task.result()


async def _carry_through(
    cluster: SimCluster, change: Callable[[Outlook], Change], reached: Callable[[ClusterMap], bool]
) -> None:
    """Until the map says so, or patience is at its end; then the plan is discarded, if it has not begun."""
    coordinator, clock = cluster.coordinator(NAME), cluster.clock(NAME)
    end = clock.monotonic() + PATIENCE_S
    numbers = iter(range(1 << 30))
    began = int(clock.monotonic() * 1000)
    while clock.monotonic() < end:
        try:
            seen = await topology.look(coordinator)
            if seen.map.next is None and reached(seen.map):
                return
            if seen.plan is None or seen.plan.id == seen.map.plan:
                await topology.stage(coordinator, change, lambda: f"{began:08x}{next(numbers):08x}")
            elif seen.plan.state == "staged":
                changes = seen.plan.changes
                seen = await topology.fresh(coordinator, seen, 5.0)
                if not topology.judge(seen, changes).refusals:
                    await topology.apply(coordinator, seen, forced=False)
        except InvalidRequest:
            await _discard(coordinator)  # what an operator before us has left does not fit any more
        except ObjstoreError:
            pass  # some process is away, or the cluster has changed
        await asyncio.sleep(0.5)
    for _ in range(int(PATIENCE_S)):
        if await _discard(coordinator):
            return
        await asyncio.sleep(0.5)


async def _discard(coordinator: Coordinator) -> bool:
    """Also if it has begun, and so cannot be."""
    try:
        await topology.discard(coordinator)
    except Conflict:
        return True
    except ObjstoreError:
        return False
    return True

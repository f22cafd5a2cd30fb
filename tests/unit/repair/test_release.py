"""Journals of former lives: who is told that nobody needs them, and who is not."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from objstore.model.cluster import NodeLease
from objstore.model.errors import Unreachable
from objstore.model.ids import NodeId
from objstore.ports import Buffer
from objstore.repair.term import release_journals
from objstore.wire import messages as m
from tests.unit.repair.acceptors import make_world


class Nodes:
    """`down` ones do not answer; the others write down what they are told."""

    def __init__(self, *down: NodeId) -> None:
        self.down = down
        self.told: list[NodeId] = []

    def is_up(self, node: NodeId) -> bool:
        return True

    async def call(
        self, node: NodeId, request: m.Request, payload: Buffer = b"", *, timeout_s: float = 4.0
    ) -> tuple[m.Reply, bytes]:
        assert request == m.RecDone()
        if node in self.down:
            raise Unreachable("no answer")
        self.told.append(node)
        return m.Ok(), b""


def lease(node: NodeId, *, lost: bool) -> NodeLease:
    return NodeLease(node, "n", "z", "host:1", 1, 0, 1, 0, "1", lost=lost)


def test_members_that_hold_lost_records_are_told_that_they_may_go() -> None:
    cluster_map = make_world("abc", ["abc"]).coordinator.now().map
    one, two, three = [node.id for node in cluster_map.nodes][:3]
    stranger = NodeId("f" * 16)
    leases = {
        one: lease(one, lost=True),
        two: lease(two, lost=False),
        three: lease(three, lost=True),
        stranger: lease(stranger, lost=True),  # not adopted: its records may be all that is left
    }
    nodes = Nodes(one)
    asyncio.run(release_journals(nodes, cluster_map, leases))
    assert nodes.told == [three], "who is silent does not keep the others waiting"
    nodes = Nodes()
    asyncio.run(release_journals(nodes, cluster_map, leases))
    assert nodes.told == [one, three]


def test_nobody_is_told_while_a_layout_change_or_a_recovery_goes_on() -> None:
    cluster_map = make_world("abc", ["abc"]).coordinator.now().map
    view = msgspec.structs.replace(cluster_map.current, epoch=cluster_map.current.epoch + 1)
    moving = msgspec.structs.replace(cluster_map, next=view)
    recovering = msgspec.structs.replace(cluster_map, recovering=9)
    for busy in (moving, recovering):
        with pytest.raises(AssertionError):
            asyncio.run(release_journals(Nodes(), busy, {}))

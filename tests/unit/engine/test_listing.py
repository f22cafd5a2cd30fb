"""One scan of a partition: whom it waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from objstore.engine.listing import _Asking
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import Space
from objstore.wire.messages import RegScan, RegStale
from tests.sim.loop import run

OWNERS = tuple(NodeId(f"n{i}") for i in range(5))
REQUEST = RegScan(1, 2, BucketId(bytes(16)), Space.OBJECT, b"", b"", 100)


class Fenced:
    """Peers that all know a newer layout, but those who say nothing."""

    def __init__(self, silent: set[NodeId]) -> None:
        self._silent = silent

    def is_up(self, node: NodeId) -> bool:
        return True

    async def call(self, node: NodeId, request: Any) -> tuple[RegStale, bytes]:
        if node in self._silent:
            await asyncio.sleep(1000)
        return RegStale(3), b""


@pytest.mark.parametrize("silent", [*({node} for node in OWNERS), {OWNERS[0], OWNERS[1]}])
def test_who_is_silent_is_not_waited_for_when_the_others_know_a_newer_layout(silent: set[NodeId]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        asking = _Asking(Fenced(silent), (OWNERS,), REQUEST)  # type: ignore[arg-type]
        assert await asking.run(began + 5.0) is None
        assert asking.stale and loop.time() - began < 0.5

    run(main, 1)

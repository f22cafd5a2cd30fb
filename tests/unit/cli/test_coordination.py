"""Which cluster this is: who may say so, and who waits."""

from __future__ import annotations

import asyncio
import json

import pytest

from objstore.cli.coordination import cluster_id_of, wrong_cluster
from objstore.cluster.port import CLUSTER_KEY
from objstore.cluster.store import CoordinatorStore
from objstore.config import load
from objstore.model.errors import Fatal
from tests.sim.coordinator import LocalCoordinator, ManualClock

ETCD = {"OBJSTORE_COORDINATOR__KIND": "etcd", "OBJSTORE_COORDINATOR__ENDPOINTS": "http://e1:2379 http://e2:2379"}
OURS, THEIRS = "ab" * 16, "cd" * 16


def ask(coordinator: LocalCoordinator, env: dict[str, str], founding: str = "") -> str:
    async def main() -> str:
        async with asyncio.timeout(10):
            return await cluster_id_of(coordinator, load(None, env), ManualClock(), founding=founding)

    return asyncio.run(main())


def empty() -> LocalCoordinator:
    return LocalCoordinator(CoordinatorStore(), ManualClock())


def test_the_first_node_makes_the_identity_and_all_others_take_it() -> None:
    coordinator = empty()
    assert ask(coordinator, ETCD, founding=OURS) == OURS
    assert ask(coordinator, ETCD, founding=THEIRS) == OURS
    assert ask(coordinator, ETCD) == OURS
    entry = asyncio.run(coordinator.get(CLUSTER_KEY))
    assert entry is not None and json.loads(entry.value) == {"id": OURS, "name": "objstore"}


@pytest.mark.parametrize(("env", "founding"), [(ETCD, ""), ({}, OURS)], ids=["a gateway", "embedded"])
def test_nobody_else_makes_one(env: dict[str, str], founding: str) -> None:
    coordinator = empty()

    async def main() -> None:
        waiting = asyncio.create_task(cluster_id_of(coordinator, load(None, env), ManualClock(), founding=founding))
        await asyncio.sleep(0.05)
        assert not waiting.done() and await coordinator.get(CLUSTER_KEY) is None
        await coordinator.put(CLUSTER_KEY, json.dumps({"id": THEIRS, "name": "x"}).encode())
        assert await waiting == THEIRS

    asyncio.run(main())


def test_a_configured_identity_is_founded_or_insisted_on() -> None:
    wanted = {**ETCD, "OBJSTORE_COORDINATOR__CLUSTER_ID": THEIRS}
    assert ask(empty(), wanted, founding=OURS) == THEIRS
    coordinator = empty()
    assert ask(coordinator, ETCD, founding=OURS) == OURS
    with pytest.raises(Fatal, match=f"etcd holds the cluster {OURS}, but coordinator.cluster_id says {THEIRS}"):
        ask(coordinator, wanted)


def test_a_node_of_another_cluster_is_told_what_to_do() -> None:
    of_etcd = str(wrong_cluster(load(None, ETCD), OURS, THEIRS))
    assert "etcd at http://e1:2379, http://e2:2379 is that of cluster" in of_etcd and "/objstore/objstore/" in of_etcd
    assert f"coordinator.cluster_id = {OURS}" in str(wrong_cluster(load(None, {}), OURS, THEIRS))

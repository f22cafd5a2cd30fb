"""The coordinator as everybody else sees it: a small revisioned store with leases and bounded watches.

It holds who is alive and the cluster map, and never an object or its metadata: the data path works without it
(P7). The verbs are the few that an embedded process and etcd both have, with the same meaning:

- one revision counter for the whole store; every change of a key takes the next one, and it never falls;
- a put or delete may be conditional on the key's revision (compare-and-swap);
- a key put under a lease goes away with the lease; a coordinator that restarts may lose all leases, so their
  holders grant and put again (`cluster/lease.py`);
- a watch answers "something under this prefix changed", never what: the caller reads again.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

CLUSTER_KEY = "cluster"  # JSON {"id", "name"}: made once, by the coordinator's first start
MAP_KEY = "map"  # model.cluster.ClusterMap
NODES = "nodes/"  # + node id: model.cluster.NodeLease
GATEWAYS = "gateways/"  # + id: model.cluster.GatewayLease
REPAIRERS = "repairers/"  # + id: model.cluster.GatewayLease
PLAN_KEY = "plan"  # model.plan.Plan: changes of membership that an operator has staged
REPAIR_LEADER_KEY = "leader/repair"  # id of the repairer that works
REPAIR_CONTROL_KEY = "repair/control"
SURVEY_KEY = "survey"  # model.survey.Survey
DAMAGE = "damage/"  # + page number: model.survey.DamagePage
USAGE = "usage/"  # + page number: model.usage.UsagePage
USAGE_HEAD_KEY = "usage-head"  # model.usage.UsageHead
INVENTORY = "inventory/"  # + bucket id: model.inventory.WrittenReports
LIFECYCLE_KEY = "lifecycle"  # model.lifecycle.LifecycleProgress
MIGRATIONS = "migrations/"  # + bucket: model.origin.MigrationProgress
SCRUB_CONTROL_KEY = "scrub/control"  # model.scrubbing.ScrubControl


class Entry(NamedTuple):
    key: str
    value: bytes
    revision: int  # of the last put of this key
    lease: int = 0  # 0 = persistent


class Coordinator(Protocol):
    """Every method raises a class of `model.errors.Unavailable` when the coordinator does not answer; the
    outcome of a change is then unknown."""

    async def get(self, key: str) -> Entry | None: ...

    async def range(self, prefix: str) -> tuple[list[Entry], int]:
        """Entries in key order, and the revision of the store that they show."""

    async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
        """The new revision, or None: the comparison failed or the lease is gone.

        expected: None = any, 0 = the key must be absent, else its revision."""

    async def delete(self, key: str, *, expected: int | None = None) -> bool:
        """False: there was no such key, or it has another revision."""

    async def grant(self, ttl_s: float) -> int:
        """A new lease; it ends unless `keep_alive` comes within every ttl_s."""

    async def keep_alive(self, lease: int) -> bool:
        """False: the lease is gone, and its keys with it."""

    async def revoke(self, lease: int) -> None:
        """End a lease now; no error if it is gone."""

    async def watch(self, prefix: str, after_revision: int, timeout_s: float) -> int:
        """Waits for a change under `prefix` later than `after_revision` and returns a revision at least as new
        as the newest of them; returns `after_revision` on time-out.

        after_revision: from `range` or an earlier watch. An older one may be answered at once, without a
        change, because the store does not remember that far back."""

    async def close(self) -> None: ...

"""The `Coordinator` port on etcd, through its v3 JSON gateway: for clusters on more than one machine.

Keys are ours below a namespace, revisions and leases are etcd's own. What differs from the embedded one:

- leases last whole seconds, rounded up, and etcd has a minimum (two seconds by default), so a holder that counts on
  what it asked for stops believing earlier than etcd does; a new leader of etcd prolongs all leases. Both are on the
  safe side of `cluster/election.py`. A member that does not know yet that it leads no longer may prolong a lease that
  has ended for the others: its holder then acts on like one that was paused itself, see there;
- etcd may come back from a copy, with revisions that fell. Then one call fails, so that everybody reads anew;
- etcd keeps every old revision until it is told not to (`etcd_compaction.py`). A watch from further back than it
  remembers is answered at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TypeVar

from objstore.cluster import etcd_json as etcd
from objstore.cluster.etcd_access import EtcdAccess
from objstore.cluster.etcd_compaction import Compaction
from objstore.cluster.etcd_http import EtcdHttp, LeaseGone
from objstore.cluster.etcd_watch import Follower
from objstore.cluster.port import Entry
from objstore.model.errors import Unavailable

log = logging.getLogger(__name__)

R = TypeVar("R", etcd.Ranged, etcd.Done)


class EtcdCoordinator:
    """Implements cluster.port.Coordinator. `first`: index of the member to begin with."""

    def __init__(self, access: EtcdAccess, *, first: int = 0) -> None:
        self._namespace = access.namespace
        self._http = EtcdHttp(access, first=first)
        self._followers: dict[str, Follower] = {}
        self._compaction = Compaction(self, self._compact)
        self._newest = 0  # revision that a linearizable answer has shown

    async def close(self) -> None:
        await self._compaction.close()
        followers, self._followers = list(self._followers.values()), {}
        for follower in followers:
            await follower.close()
        await self._http.close()

    # --- keys ---

    async def get(self, key: str) -> Entry | None:
        found = await self._linear(etcd.RANGE, etcd.range_of(self._namespace + key), etcd.Ranged)
        return self._entry(found.kvs[0]) if found.kvs else None

    async def range(self, prefix: str) -> tuple[list[Entry], int]:
        found = await self._linear(etcd.RANGE, etcd.range_under(self._namespace + prefix), etcd.Ranged)
        return [self._entry(kv) for kv in found.kvs], found.header.revision

    async def put(self, key: str, value: bytes, *, lease: int = 0, expected: int | None = None) -> int | None:
        place = self._namespace + key
        try:
            if expected is None:
                done = await self._linear(etcd.PUT, etcd.put(place, value, lease), etcd.Done)
                return done.header.revision
            done = await self._linear(etcd.TXN, etcd.put_if(place, expected, value, lease), etcd.Done)
        except LeaseGone:
            return None
        return done.header.revision if done.succeeded else None

    async def delete(self, key: str, *, expected: int | None = None) -> bool:
        place = self._namespace + key
        if expected is None:
            return (await self._linear(etcd.DELETE, etcd.range_of(place), etcd.Done)).deleted > 0
        if expected == 0:
            return False  # a key that is absent cannot be deleted
        return (await self._linear(etcd.TXN, etcd.delete_if(place, expected), etcd.Done)).succeeded

    def _entry(self, kv: etcd.KeyValue) -> Entry:
        return Entry(kv.key.decode().removeprefix(self._namespace), kv.value, kv.mod_revision, kv.lease)

    async def _linear(self, path: str, request: dict[str, object], kind: type[R]) -> R:
        """A request whose answer shows the revision of the whole store at a moment after it was sent."""
        before = self._newest
        reply = await self._http.call(path, request, kind, repeatable=path == etcd.RANGE)
        if reply.header.revision < before:
            self._went_back(before, reply.header.revision)
        self._newest = max(self._newest, reply.header.revision)
        return reply

    def _went_back(self, before: int, now: int) -> None:
        self._newest = now
        problem = Unavailable(f"the revision of etcd fell from {before} to {now}: it was restored or replaced")
        log.error("%s", problem)
        for follower in self._followers.values():
            follower.end(problem)
        raise problem

    # --- leases ---

    async def grant(self, ttl_s: float) -> int:
        request = {"TTL": str(math.ceil(ttl_s))}
        return (await self._http.call(etcd.GRANT, request, etcd.Lease, repeatable=True)).id

    async def keep_alive(self, lease: int) -> bool:
        request = {"ID": str(lease)}
        return (await self._http.call(etcd.KEEP_ALIVE, request, etcd.KeptAlive, repeatable=True)).result.ttl_s > 0

    async def revoke(self, lease: int) -> None:
        with contextlib.suppress(LeaseGone):
            await self._http.call(etcd.REVOKE, {"ID": str(lease)}, etcd.Done, repeatable=True)

    # --- history ---

    async def _compact(self, revision: int) -> None:
        await self._http.call(etcd.COMPACT, {"revision": str(revision)}, etcd.Done, repeatable=True)

    # --- watches ---

    async def watch(self, prefix: str, after_revision: int, timeout_s: float) -> int:
        self._compaction.start()  # whoever watches lives long
        follower = self._followers.get(prefix)
        if follower is None or follower.problem is not None:
            follower = Follower(self._http, self._namespace + prefix, after_revision, self._revision_now)
            self._followers[prefix] = follower
        if follower.start > after_revision + 1:
            return max(follower.newest, after_revision)  # from before we began to look: it must be read again
        return await follower.wait(after_revision, timeout_s)

    async def _revision_now(self) -> int:
        return (await self._linear(etcd.RANGE, etcd.range_of(self._namespace), etcd.Ranged)).header.revision

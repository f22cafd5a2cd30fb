"""The coordinator's state: revisioned keys and leases, as plain data. No clock, no disk, no network.

A change has two steps, so that its caller can make it durable in between: `plan_*` decides and returns a
`Change` (or None: refused) without touching anything, `apply` makes it visible. Between the two the caller
must not plan another change. Invariants:

- revisions and lease ids come from one counter that only rises, so neither is ever used twice;
- an entry with a lease exists only while that lease does;
- `history` remembers the newest `HISTORY_MAX` changes; whoever watches from further back is told to look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from objstore.cluster.port import Entry

HISTORY_MAX = 4096


class Change(NamedTuple):
    revision: int
    key: str
    entry: Entry | None  # None: the key goes away
    persistent: bool  # what a restart finds changes


class _Lease:
    __slots__ = ("deadline", "keys", "ttl_s")

    def __init__(self, ttl_s: float, deadline: float) -> None:
        self.ttl_s = ttl_s
        self.deadline = deadline
        self.keys: dict[str, None] = {}  # in the order of their puts


class CoordinatorStore:
    """`claims_from`: until then nobody may create a key that must be absent under a lease. After a restart the
    leases are forgotten while their holders (a leader, say) still rightly rely on them: for as long as the
    longest of them could last, nobody else may take their place."""

    def __init__(self, revision: int = 0, entries: Iterable[Entry] = (), *, claims_from: float = 0.0) -> None:
        self.revision = revision
        self._entries = {entry.key: entry for entry in entries}
        self._leases: dict[int, _Lease] = {}
        self._history: deque[tuple[int, str]] = deque()
        self._forgotten = revision  # changes up to here are not in the history
        self._claims_from = claims_from

    # --- reading ---

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def range(self, prefix: str) -> list[Entry]:
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]

    def newest(self, prefix: str, after: int) -> int:
        """The newest revision > after that touched `prefix`, or `after` when there is none."""
        if after > self.revision or after < self._forgotten:
            return self.revision  # from another life of this store, or from too long ago: look again
        for revision, key in reversed(self._history):
            if revision <= after:
                break
            if key.startswith(prefix):
                return revision
        return after

    # --- changing keys ---

    def plan_put(self, key: str, value: bytes, *, lease: int, expected: int | None, now: float) -> Change | None:
        old = self._entries.get(key)
        if not _as_expected(old, expected):
            return None
        if lease:
            holder = self._leases.get(lease)
            if holder is None or holder.deadline <= now:
                return None
            if expected == 0 and now < self._claims_from:
                return None
        entry = Entry(key, value, self.revision + 1, lease)
        return Change(entry.revision, key, entry, not lease or (old is not None and not old.lease))

    def plan_delete(self, key: str, *, expected: int | None) -> Change | None:
        old = self._entries.get(key)
        if old is None or not _as_expected(old, expected):
            return None
        return Change(self.revision + 1, key, None, not old.lease)

    def apply(self, change: Change) -> None:
        assert change.revision == self.revision + 1, "a change was planned on another state"
        old = self._entries.pop(change.key, None)
        if old is not None and old.lease in self._leases:
            self._leases[old.lease].keys.pop(change.key, None)
        if change.entry is not None:
            self._entries[change.key] = change.entry
            if change.entry.lease:
                self._leases[change.entry.lease].keys[change.key] = None
        self.revision = change.revision
        self._history.append((change.revision, change.key))
        if len(self._history) > HISTORY_MAX:
            self._forgotten = self._history.popleft()[0]

    # --- leases: their end takes one revision for each of their keys ---

    def grant(self, ttl_s: float, now: float) -> int:
        self.revision += 1
        self._leases[self.revision] = _Lease(ttl_s, now + ttl_s)
        return self.revision

    def keep_alive(self, lease: int, now: float) -> bool:
        found = self._leases.get(lease)
        if found is None or found.deadline <= now:
            return False
        found.deadline = now + found.ttl_s
        return True

    def revoke(self, lease: int) -> bool:
        """Ends the lease and removes its keys; True if there were any."""
        found = self._leases.get(lease)
        if found is None:
            return False
        touched = list(found.keys)
        for key in touched:
            self.apply(Change(self.revision + 1, key, None, False))
        del self._leases[lease]
        return bool(touched)

    def expire(self, now: float) -> bool:
        """Ends the leases that are over; True if keys went with them."""
        over = sorted((lease.deadline, number) for number, lease in self._leases.items() if lease.deadline <= now)
        touched = False
        for _, number in over:
            touched |= self.revoke(number)
        return touched

    def keys_under(self, lease: int) -> int:
        """How many keys a revocation would remove."""
        return len(self._leases[lease].keys) if lease in self._leases else 0

    def keys_due(self, now: float) -> int:
        """How many keys `expire` would remove."""
        return sum(len(lease.keys) for lease in self._leases.values() if lease.deadline <= now)

    def next_expiry(self) -> float | None:
        return min((lease.deadline for lease in self._leases.values()), default=None)


def _as_expected(old: Entry | None, expected: int | None) -> bool:
    return expected is None or expected == (old.revision if old else 0)

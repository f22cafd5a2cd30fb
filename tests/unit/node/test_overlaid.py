"""The store with what waits laid over it shows what the store shows once that is committed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from objstore.node.overlaid import Overlaid
from tests.sim.kv import SimKV

keys = st.binary(min_size=1, max_size=2).map(lambda raw: bytes(byte % 4 for byte in raw))
rows = st.dictionaries(keys, st.binary(max_size=2), max_size=12)
waiting = st.dictionaries(st.tuples(st.sampled_from("ab"), keys), st.none() | st.binary(max_size=2), max_size=12)


@given(rows, waiting, st.binary(max_size=2), st.none() | keys, st.none() | st.integers(0, 14))
def test_a_scan_is_that_of_the_committed_rows(
    stored: dict[bytes, bytes],
    over: dict[tuple[str, bytes], bytes | None],
    start: bytes,
    end: bytes | None,
    limit: int | None,
) -> None:
    kv, committed = SimKV(["a", "b"]), SimKV(["a", "b"])
    for one in (kv, committed):
        one.commit([("a", key, row) for key, row in stored.items()])
    committed.commit([(table, key, row) for (table, key), row in over.items()])
    for table in "ab":
        found = Overlaid(kv, over).scan(table, start, end, limit=limit)
        assert found == committed.scan(table, start, end, limit=limit)

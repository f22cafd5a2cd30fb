"""Pages of registers, read from an index that changes meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from objstore.model.clock import ZERO, Ballot
from objstore.node import register_rows as rows
from objstore.node.register_pages import pull_page
from objstore.node.register_rows import NOTHING, Held
from objstore.ports import Write
from objstore.register.acceptor import AcceptorState
from objstore.wire.messages import RegPull
from tests.sim.kv import SimKV

PARTITION = 3


class During:
    """A store in which something is committed just after a table was read."""

    def __init__(self, kv: SimKV, table: str, writes: list[Write]) -> None:
        self._kv, self._table, self._writes = kv, table, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kv, name)

    def scan(self, table: str, *args: Any, **keywords: Any) -> list[tuple[bytes, bytes]]:
        found = list(self._kv.scan(table, *args, **keywords))
        if table == self._table and self._writes:
            self._kv.commit(self._writes)
            self._writes = []
        return found


@pytest.mark.parametrize("late", ["floor", "fence", "both"])
def test_what_a_page_says_of_fence_and_floor_was_so_before_its_rows_were_read(late: str) -> None:
    """A page with the floor of now and the rows of before would say that a register is as good as deleted at that
    floor, though a value above it was accepted before the floor rose (INV-11); with the fence of now, that nothing was
    accepted below the new tag beyond what it shows (INV-1)."""
    kv = SimKV(list(rows.TABLES))
    place = rows.place_of(PARTITION, b"k" * 17 + b"a")
    accepted = Held(AcceptorState(Ballot(5, 1), Ballot(5, 1)), b"", b"s", b"")
    writes = list(rows.writes_for(place, accepted, NOTHING))
    writes += [rows.floor_write(PARTITION, Ballot(9, 1))] if late in ("floor", "both") else []
    writes += [rows.fence_write(PARTITION, 7)] if late in ("fence", "both") else []
    changing: Any = During(kv, rows.REG, writes)
    page, _ = pull_page(changing, RegPull(PARTITION, b"", 10, ballots_only=True, promises=True))
    assert not page.keys and page.fence == 0 and page.floor == ZERO.pack()
    page, _ = pull_page(changing, RegPull(PARTITION, b"", 10, ballots_only=True, promises=True))
    assert page.keys, "it was committed all the same"

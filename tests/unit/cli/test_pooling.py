"""The processes of one gateway count together, and their sum never falls."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from objstore.cli.pooling import Pool
from objstore.model.traffic import Traffic

NOBODY = 2**22 + 1  # above every pid that Linux gives


def traffic(*requests: tuple[str, int]) -> Traffic:
    made = Traffic()
    for operation, status in requests:
        made.count(operation, status, 0.5, 0.25, 10, 100)
    made.in_flight = 1
    return made


def test_what_was_published_is_added_up(tmp_path: Path) -> None:
    own = traffic(("GetObject", 200), ("GetObject", 404))
    pool = Pool(tmp_path, own)
    pool.publish()
    (tmp_path / str(NOBODY)).write_bytes(msgspec.msgpack.encode(traffic(("GetObject", 200), ("PutObject", 200))))
    total = asyncio.run(pool.total())
    assert total.requests == {"GetObject": {200: 2, 404: 1}, "PutObject": {200: 1}}
    assert (total.bytes_in, total.bytes_out) == (40, 400)
    assert total.durations["GetObject"].count == 3
    assert total.in_flight == 1, "a dead process answers nothing"


def test_only_what_was_published_counts(tmp_path: Path) -> None:
    """Else the sum would fall when the next scrape meets another process."""
    own = traffic(("GetObject", 200))
    pool = Pool(tmp_path, own)
    pool.publish()
    own.count("GetObject", 200, 0.5, 0.5, 0, 0)
    assert asyncio.run(pool.total()).requests == {"GetObject": {200: 1}}
    pool.publish()
    assert asyncio.run(pool.total()).requests == {"GetObject": {200: 2}}
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]

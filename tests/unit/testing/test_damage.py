"""Damage hits exactly the shard that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from objstore.codec.envelope import EnvelopeHeader, encode_header
from objstore.model.errors import NotFound
from objstore.testing.damage import flip_bit


def envelope(shard: int, blob: int, body: bytes) -> bytes:
    header = EnvelopeHeader(
        "c" * 32, bytes(16), "b", b"k", bytes(15) + bytes((blob,)), 4000, 0, shard, 1, "zfec", 4, 2, 1024, 4000, 0, {}
    )
    return encode_header(header) + body


def volume(path: Path, *envelopes: bytes) -> Path:
    path.mkdir(parents=True)
    (path / "00000001.vol").write_bytes(b"junk OBJF junk" + b"".join(envelopes))
    return path


def test_one_bit_of_the_newest_version_is_flipped(tmp_path: Path) -> None:
    old, new = envelope(2, 1, b"AAAA"), envelope(2, 2, b"BBBB")
    folders = {"n1": volume(tmp_path / "n1/volumes", envelope(1, 2, b"CCCC")), "n2": volume(tmp_path / "n2", old, new)}
    before = (tmp_path / "n2/00000001.vol").read_bytes()
    assert flip_bit(folders, "b", "k", 0, 2) == "n2"
    after = (tmp_path / "n2/00000001.vol").read_bytes()
    assert [i for i in range(len(before)) if before[i] != after[i]] == [before.index(b"BBBB")]


def test_a_shard_that_nobody_stores_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="shard 5 of segment 0 of b/k"):
        flip_bit({"n1": volume(tmp_path / "n1", envelope(1, 1, b"A"))}, "b", "k", 0, 5)

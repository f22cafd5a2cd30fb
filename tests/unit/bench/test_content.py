"""Objects of a bench: what is written is what the digest is of, and no two are alike."""

from __future__ import annotations

import pytest
import xxhash

from objstore.bench.content import PATTERN_BYTES, WRITE_BYTES, Content


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4096, WRITE_BYTES + 5, PATTERN_BYTES - 1, 2 * PATTERN_BYTES + 123])
def test_pieces_have_the_size_and_the_digest(size: int) -> None:
    content = Content(7)
    data = b"".join(content.pieces("a/b", size))
    assert len(data) == size and xxhash.xxh3_128_digest(data) == content.digest("a/b", size)
    assert data == b"".join(Content(7).pieces("a/b", size))


def test_other_keys_and_other_runs_are_other_bytes() -> None:
    digests = {Content(seed).digest(key, 4096) for seed in (1, 2) for key in ("a", "b")}
    assert len(digests) == 4

"""Windows: any k shards make what was lost, seals included; one that does not verify makes nothing."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from objstore.codec.envelope import seal
from objstore.codec.erasure import get_codec
from objstore.codec.stripes import SegmentShape, pad, split_stripe
from objstore.codec.windows import Outgoing, open_window, remake, window_length
from objstore.model.errors import Corrupt
from objstore.model.ids import BlobId
from objstore.model.manifest import FragmentId

K, M, CELL = 3, 2, 64
CODEC = get_codec("zfec", K, M)
STRIPES = range(1, 4)


def fragment(shard: int) -> FragmentId:
    return FragmentId(BlobId(bytes(range(16))), 2, shard)


def windows(shape: SegmentShape) -> dict[int, bytes]:
    """Of all shards, over STRIPES, by the plain rules of the format."""
    made = {shard: b"" for shard in range(K + M)}
    rng = random.Random(shape.length)
    for stripe in STRIPES:
        cells = split_stripe(rng.randbytes(shape.stripe_length(stripe)), shape, stripe)
        parity = CODEC.encode([pad(cell, shape.coding_length(stripe)) for cell in cells])
        for shard, cell in enumerate(map(bytes, [*cells, *parity])):
            made[shard] += cell + seal(fragment(shard), stripe, cell)
    return made


# the last stripe: whole, short, and so short that a data cell of it is empty
@pytest.mark.parametrize("length", [4 * K * CELL, 3 * K * CELL + 100, 3 * K * CELL + 1])
def test_any_k_windows_give_all_others_as_they_were_written(length: int) -> None:
    shape = SegmentShape(length, K, M, CELL)
    whole = windows(shape)
    assert {shard: len(window) for shard, window in whole.items()} == {
        shard: window_length(shape, shard, STRIPES) for shard in whole
    }
    for have in combinations(whole, K):
        made = remake(CODEC, shape, fragment, STRIPES, {shard: whole[shard] for shard in have}, list(whole))
        assert not made.bad
        assert {shard: bytes(window) for shard, window in made.windows.items()} == whole


@pytest.mark.parametrize("prefix", [b"", b"header"])
@pytest.mark.parametrize("length", [4 * K * CELL, 3 * K * CELL + 100, 3 * K * CELL + 1])
def test_what_is_sent_is_what_the_format_says(length: int, prefix: bytes) -> None:
    shape = SegmentShape(length, K, M, CELL)
    out = Outgoing(shape, STRIPES, [prefix + bytes((shard,)) * len(prefix) for shard in range(K + M)])
    rng = random.Random(length)
    assert out.size == length - K * CELL  # all but the first stripe
    body = b"".join(rng.randbytes(shape.stripe_length(stripe)) for stripe in STRIPES)
    at = 0
    for cell in out.cells:
        cell[:] = body[at : at + len(cell)]
        at += len(cell)
    assert at == len(body)
    out.seal(CODEC, fragment)
    expected = windows(shape)
    for shard, window in enumerate(out.windows):
        assert bytes(window) == prefix + bytes((shard,)) * len(prefix) + expected[shard]


@pytest.mark.parametrize("harm", ["flipped", "cut short", "of another shard", "of other stripes"])
def test_of_a_window_that_does_not_verify_nothing_is_made_and_it_is_named(harm: str) -> None:
    shape = SegmentShape(5 * K * CELL, K, M, CELL)
    read = {shard: window for shard, window in windows(shape).items() if shard < K}
    sealed = CELL + 8
    read[1] = {
        "flipped": read[1][:CELL] + bytes((read[1][CELL] ^ 1,)) + read[1][CELL + 1 :],
        "cut short": read[1][:-1],
        "of another shard": read[2],
        "of other stripes": read[1][sealed : 2 * sealed] + read[1][:sealed] + read[1][2 * sealed :],
    }[harm]
    made = remake(CODEC, shape, fragment, STRIPES, read, [K])
    assert not made.windows
    assert list(made.bad) == [1] and isinstance(made.bad[1], Corrupt)
    with pytest.raises(Corrupt):
        open_window(fragment(1), shape, STRIPES, read[1])

"""Both codecs against each other's promise (any m cells may go) and against arithmetic done by hand."""

from __future__ import annotations

import itertools
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.codec.erasure import Codec, available, get_codec
from objstore.codec.isal import isal_loads
from objstore.model.errors import InvalidRequest
from tests.unit.codec import galois

NAMES = ("isal", "zfec")
KINDS = (
    bytes,
    bytearray,
    memoryview,
    lambda cell: memoryview(bytearray(cell)),
    lambda cell: memoryview(b"x" + cell + b"y")[1:-1],  # read-only, at an odd address
)


def pattern(length: int, seed: int) -> bytes:
    return bytes((i * i * 31 + i * seed + seed * 7 + (i >> 8)) & 0xFF for i in range(length))


def data_cells(k: int, length: int) -> list[bytes]:
    return [pattern(length, shard + 1) for shard in range(k)]


def all_shards(codec: Codec, cells: list[bytes]) -> dict[int, bytes]:
    return dict(enumerate([*cells, *codec.encode(cells)]))


def test_the_fast_codec_is_available_wherever_these_tests_run() -> None:
    assert isal_loads()
    assert available() == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 1000])
def test_4_2_survives_every_loss_of_up_to_two_cells_whatever_is_wanted(name: str, length: int) -> None:
    codec = get_codec(name, 4, 2)
    shards = all_shards(codec, data_cells(4, length))
    for count in range(3):
        for lost in itertools.combinations(range(6), count):
            left = {shard: cell for shard, cell in shards.items() if shard not in lost}
            for size in range(7):
                for want in itertools.combinations(range(6), size):
                    assert codec.rebuild(left, want) == {shard: shards[shard] for shard in want}


@pytest.mark.parametrize("name", NAMES)
def test_4_2_agrees_with_arithmetic_by_hand_for_every_pattern(name: str) -> None:
    codec = get_codec(name, 4, 2)
    cells = data_cells(4, 37)
    parity = galois.encode(name, 4, 2, cells)
    assert codec.encode(cells) == parity
    shards = dict(enumerate([*cells, *parity]))
    for lost in itertools.combinations(range(6), 2):
        left = {shard: cell for shard, cell in shards.items() if shard not in lost}
        assert codec.rebuild(left, lost) == galois.rebuild(name, 4, 2, left, lost)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(NAMES), st.integers(1, 12), st.integers(1, 5), st.integers(1, 90), st.data())
def test_any_code_agrees_with_arithmetic_by_hand(name: str, k: int, m: int, length: int, data: st.DataObject) -> None:
    codec = get_codec(name, k, m)
    cells = [data.draw(st.binary(min_size=length, max_size=length)) for _ in range(k)]
    parity = codec.encode(cells)
    assert parity == galois.encode(name, k, m, cells)
    shards = dict(enumerate([*cells, *parity]))
    lost = data.draw(st.permutations(range(k + m)))[: data.draw(st.integers(0, m))]
    left = {shard: cell for shard, cell in shards.items() if shard not in lost}
    assert codec.rebuild(left, lost) == {shard: shards[shard] for shard in lost}
    assert codec.rebuild(left, lost) == galois.rebuild(name, k, m, left, lost)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("k", "m"), [(1, 1), (1, 31), (2, 1), (3, 2), (5, 4), (8, 3), (10, 6), (16, 16), (31, 1)])
def test_codes_of_every_size_survive_the_loss_of_their_first_and_last_m_cells(name: str, k: int, m: int) -> None:
    codec = get_codec(name, k, m)
    shards = all_shards(codec, data_cells(k, 333))
    for lost in (list(range(m)), list(range(k, k + m)), list(range(0, min(k + m, 2 * m), 2))):
        left = {shard: cell for shard, cell in shards.items() if shard not in lost}
        assert codec.rebuild(left, lost) == {shard: shards[shard] for shard in lost}


@pytest.mark.parametrize("name", NAMES)
def test_every_length_around_the_vector_widths_is_coded_to_its_last_byte(name: str) -> None:
    codec = get_codec(name, 3, 2)
    longest = data_cells(3, 300)
    parity = galois.encode(name, 3, 2, longest)
    for length in range(1, 301):
        assert codec.encode([cell[:length] for cell in longest]) == [cell[:length] for cell in parity]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_cells_may_be_any_buffer_and_are_neither_changed_nor_kept(name: str, kind: type) -> None:
    codec = get_codec(name, 4, 2)
    plain = data_cells(4, 777)
    shards = all_shards(codec, plain)
    cells = [kind(cell) for cell in plain]
    assert codec.encode(cells) == [shards[4], shards[5]]
    assert [bytes(cell) for cell in cells] == plain
    left = {shard: kind(shards[shard]) for shard in (1, 2, 4, 5)}
    rebuilt = codec.rebuild(left, [0, 3, 1])
    assert rebuilt == {0: plain[0], 3: plain[3], 1: plain[1]}
    assert all(type(cell) is bytes for cell in rebuilt.values())
    for cell in cells:
        if isinstance(cell, bytearray):
            cell.append(0)  # a buffer still locked would raise BufferError


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_different_lengths_none_at_all_or_too_few_are_refused(name: str) -> None:
    codec = get_codec(name, 2, 1)
    for wrong in ([b"ab", b"a"], [b"", b""], [b"ab"], [b"ab", b"ab", b"ab"]):
        with pytest.raises(ValueError, match="cells"):
            codec.encode(wrong)
    for short in ({0: b"ab"}, {0: b"ab", 2: b"a"}, {}):
        with pytest.raises(ValueError, match="cells"):
            codec.rebuild(short, [1])


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_that_is_no_contiguous_buffer_is_refused_and_releases_the_others(name: str) -> None:
    first = bytearray(b"abcd")
    with pytest.raises(BufferError):
        get_codec(name, 2, 1).encode([first, memoryview(b"a-b-c-d-")[::2]])
    first.append(0)


def test_an_unknown_codec_or_code_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidRequest, match="isal, zfec"):
        get_codec("reed", 4, 2)
    with pytest.raises(InvalidRequest, match=r"k\+m <= 32"):
        get_codec("zfec", 30, 3)


def test_one_instance_serves_a_code() -> None:
    assert get_codec("isal", 4, 2) is get_codec("isal", 4, 2)


@pytest.mark.parametrize("name", NAMES)
def test_threads_share_a_codec(name: str) -> None:
    codec = get_codec(name, 6, 3)
    shards = all_shards(codec, data_cells(6, 5000))
    failures: list[tuple[int, ...]] = []

    def work(offset: int) -> None:
        for lost in itertools.islice(itertools.combinations(range(9), 3), offset, None, 4):
            left = {shard: cell for shard, cell in shards.items() if shard not in lost}
            if codec.rebuild(left, lost) != {shard: shards[shard] for shard in lost}:
                failures.append(lost)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("name", NAMES)
def test_other_threads_run_while_cells_are_coded(name: str) -> None:
    """Nobody is asked to hand over the GIL here, so `ticks` can only move if the native call releases it."""
    codec = get_codec(name, 4, 2)
    cells = [bytes(4 << 20) for _ in range(4)]
    ticks = 0
    stop = False

    def tick() -> None:
        nonlocal ticks
        while not stop:
            ticks += 1
            time.sleep(0)  # releases the GIL, so that the main thread gets it back

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    sys.setswitchinterval(1000)
    try:
        moved = False
        for _ in range(100):  # a busy machine may not schedule the thread during one call
            before = ticks
            codec.encode(cells)
            moved = moved or ticks > before
            if moved:
                break
    finally:
        sys.setswitchinterval(interval)
        stop = True
        thread.join()
    assert moved

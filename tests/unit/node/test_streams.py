"""Streamed fragments: pieces in order, verified as they come, visible after the commit only."""

from __future__ import annotations

import asyncio

import pytest

from objstore.model import limits
from objstore.model.errors import Corrupt, IncompleteBody, InsufficientStorage, InvalidRequest, NotFound, Overloaded
from objstore.model.manifest import FragmentId
from objstore.node import streams as streams_module
from objstore.node.service import NodeService
from objstore.node.streams import IDLE_S
from objstore.node.volumes import BLOCK, padded
from objstore.wire.messages import (
    FragAbort,
    FragCommit,
    FragHead,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    FragWrite,
    NodeStats,
    NodeStatsReply,
    Ok,
)
from tests.unit.node.rig import Rig, ask, blob_in, envelope, fetch, whole, with_node

P = 3
ONE = FragmentId(blob_in(P), 0, 1)


async def open_stream(node: NodeService, length: int, fragment: FragmentId = ONE) -> int:
    reply = await ask(node, FragOpen(P, fragment.pack(), length))
    assert isinstance(reply, FragOpened)
    return reply.stream


async def send(node: NodeService, stream: int, pieces: list[bytes]) -> None:
    offset = 0
    for piece in pieces:
        assert await ask(node, FragWrite(stream, offset), piece) == Ok()
        offset += len(piece)


def pieces_of(size: int = 50_000) -> list[bytes]:
    header, cells = envelope(ONE, size)
    return [header, *cells]


async def assert_nothing_left(rig: Rig, node: NodeService) -> None:
    stats = await ask(node, NodeStats())
    assert isinstance(stats, NodeStatsReply) and (stats.fragments, stats.used_bytes) == (0, 0)
    assert rig.sim_disk.used == BLOCK, "only identity.json"


@pytest.mark.parametrize("size", [1, 50_000, 1_000_000])
def test_a_stream_becomes_a_fragment_with_its_commit(size: int) -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        header, cells = envelope(ONE, size)
        stream = await open_stream(node, len(whole(ONE, size)))
        await send(node, stream, [header, *cells])
        with pytest.raises(NotFound):
            await ask(node, FragHead(ONE.pack()))
        assert await ask(node, FragCommit(stream)) == Ok()
        body = b"".join(cells)
        assert await fetch(node, FragRead(ONE.pack(), 0, len(body))) == body
        assert await ask(node, FragVerify(ONE.pack())) == Ok()
        with pytest.raises(NotFound, match="not open"):
            await ask(node, FragCommit(stream))

    with_node(check)


def test_pieces_sent_without_waiting_stay_in_order() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        pieces = pieces_of()
        stream = await open_stream(node, sum(map(len, pieces)))
        offset = 0
        requests = []
        for piece in pieces:
            requests.append(ask(node, FragWrite(stream, offset), piece))
            offset += len(piece)
        requests.append(ask(node, FragCommit(stream)))
        assert set(await asyncio.gather(*requests)) == {Ok()}
        assert await ask(node, FragVerify(ONE.pack())) == Ok()

    with_node(check)


def test_wrong_pieces_end_the_stream_and_free_its_space() -> None:
    header, *cells = pieces_of()
    length = len(header) + sum(map(len, cells))
    other = envelope(FragmentId(ONE.blob, 0, 2), 50_000)[0]
    cases: list[tuple[list[tuple[int, bytes]], type[Exception]]] = [
        ([(0, header[:-1])], Corrupt),
        ([(0, header + cells[0])], Corrupt),
        ([(0, other)], Corrupt),
        ([(0, header), (len(header), cells[1])], Corrupt),
        ([(0, header), (len(header), cells[0][:-1])], Corrupt),
        ([(0, header), (len(header) + 1, cells[0])], InvalidRequest),
        ([(0, header), (0, header)], InvalidRequest),
        ([(0, header), (len(header), bytes(length))], InvalidRequest),
    ]

    async def check(rig: Rig, node: NodeService) -> None:
        for writes, error in cases:
            stream = await open_stream(node, length)
            for offset, piece in writes[:-1]:
                await ask(node, FragWrite(stream, offset), piece)
            with pytest.raises(error):
                await ask(node, FragWrite(stream, writes[-1][0]), writes[-1][1])
            with pytest.raises(NotFound):
                await ask(node, FragWrite(stream, 0), header)
            await assert_nothing_left(rig, node)

    with_node(check)


def test_pieces_behind_a_wrong_one_are_not_written_any_more() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        header, cells = envelope(ONE, 2_000_000, cell_size=limits.CELL_SIZE)
        stream = await open_stream(node, len(header) + sum(map(len, cells)))
        await send(node, stream, [header])
        requests = []
        offset = len(header)
        for cell in (cells[1], cells[1], cells[2]):
            requests.append(ask(node, FragWrite(stream, offset), cell))
            offset += len(cell)
        results = await asyncio.gather(*requests, ask(node, FragAbort(stream)), return_exceptions=True)
        assert [type(result) for result in results] == [Corrupt, NotFound, NotFound, Ok]
        await assert_nothing_left(rig, node)

    with_node(check)


def test_the_announced_length_must_be_that_of_the_envelope() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        header, *cells = pieces_of()
        stream = await open_stream(node, len(header) + sum(map(len, cells)) + 1)
        with pytest.raises(Corrupt, match="should have"):
            await ask(node, FragWrite(stream, 0), header)
        await assert_nothing_left(rig, node)

    with_node(check)


def test_a_commit_of_an_unfinished_stream_is_refused_and_ends_it() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        pieces = pieces_of()
        for sent in (pieces[:0], pieces[:1], pieces[:-1]):
            stream = await open_stream(node, sum(map(len, pieces)))
            await send(node, stream, sent)
            with pytest.raises(IncompleteBody):
                await ask(node, FragCommit(stream))
            await assert_nothing_left(rig, node)

    with_node(check)


def test_abort_frees_the_space_and_may_be_repeated() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        pieces = pieces_of()
        stream = await open_stream(node, sum(map(len, pieces)))
        await send(node, stream, pieces[:3])
        for _ in range(2):
            assert await ask(node, FragAbort(stream)) == Ok()
        await assert_nothing_left(rig, node)

    with_node(check)


def test_silent_streams_are_dropped_and_busy_ones_are_not() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        pieces = pieces_of()
        length = sum(map(len, pieces))
        silent, busy = await open_stream(node, length), await open_stream(node, length)
        rig.clock.now += IDLE_S
        await send(node, busy, pieces[:1])
        rig.clock.now += 1
        node.tick()
        with pytest.raises(NotFound, match="silent"):
            await ask(node, FragWrite(silent, 0), pieces[0])
        await ask(node, FragWrite(busy, len(pieces[0])), pieces[1])
        await ask(node, FragAbort(busy))
        await assert_nothing_left(rig, node)

    with_node(check)


def test_streams_are_bounded_in_number_and_in_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "STREAMS_MAX", 2)

    async def check(rig: Rig, node: NodeService) -> None:
        with pytest.raises(InsufficientStorage):
            await open_stream(node, 3 * limits.MIB)
        with pytest.raises(InvalidRequest, match="does not fit"):
            await open_stream(node, 0)
        first = await open_stream(node, limits.MIB)
        with pytest.raises(InsufficientStorage):
            await open_stream(node, limits.MIB + BLOCK + 1)
        await open_stream(node, BLOCK)
        with pytest.raises(Overloaded):
            await open_stream(node, BLOCK)
        await ask(node, FragAbort(first))
        await open_stream(node, limits.MIB)

    with_node(check, capacity_bytes=3 * limits.MIB + BLOCK)


def test_a_stream_of_what_is_held_already_is_fine_and_stores_nothing() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        pieces = pieces_of()
        raw = b"".join(pieces)
        first, second = await open_stream(node, len(raw)), await open_stream(node, len(raw))
        await send(node, first, pieces)
        await send(node, second, pieces)
        await asyncio.gather(ask(node, FragCommit(first)), ask(node, FragCommit(second)))
        await ask(node, FragPut(P, ONE.pack()), raw)
        stats = await ask(node, NodeStats())
        assert isinstance(stats, NodeStatsReply)
        assert (stats.fragments, stats.used_bytes) == (1, padded(len(raw)))

    with_node(check)

"""Who is asked for the pages of a list: of each partition a majority, of which one tells; and what else is done when
replicas differ, fail, or are late."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from objstore.engine.pages import Range, Want, agreed_pages, first_asks
from objstore.engine.peers import Peers
from objstore.model.errors import Unreachable
from objstore.model.ids import BucketId, NodeId
from objstore.model.records import Space
from objstore.placement.topology import MetaView
from objstore.wire.messages import Page, RegPaged, RegPages
from tests.sim.loop import run

A, B, C, D, E, F, G, H = (NodeId(name) for name in "abcdefgh")
WHAT = Range(BucketId(bytes(16)), Space.OBJECT, b"", 10)
VIEWS = {
    1: MetaView(2, ((A, B, C, D, E),)),
    2: MetaView(2, ((D, E, F, G, H),)),
    3: MetaView(3, ((A, B, C), (C, D, E))),
}


@pytest.mark.parametrize("salt", range(20))
def test_of_each_partition_a_majority_is_asked_and_one_tells(salt: int) -> None:
    down = {A, D}
    asks = first_asks(VIEWS, lambda node: node not in down, salt)
    for partition, view in VIEWS.items():
        asked = {node for node, partitions in asks.items() if partition in partitions}
        assert all(len(asked & set(one)) > len(one) // 2 for one in view.sets)
        assert [asks[node][partition] for node in asked].count(Want.PAGE) == 1
        assert not asked & down
    assert max(list(partitions.values()).count(Want.PAGE) for partitions in asks.values()) <= 2


def test_those_that_are_down_are_asked_where_there_is_no_majority_without_them() -> None:
    asks = first_asks({1: VIEWS[1]}, lambda node: node in (A, B), 0)
    assert {A, B} < set(asks) and len(asks) == 3 and Want.PAGE in (asks[A][1], asks[B][1])


def test_asking_turns_so_that_not_always_the_same_nodes_have_the_work() -> None:
    tellers = {
        node
        for salt in range(50)
        for node, parts in first_asks(VIEWS, lambda _: True, salt).items()
        if parts[min(parts)] is Want.PAGE
    }
    assert len(tellers) >= 7


class _Nodes:
    """Peers that answer by node: digests of the page and the partition, one for both, an error, or nothing for ever."""

    def __init__(self, answers: dict[NodeId, Any], views: dict[int, MetaView]) -> None:
        self.topology = SimpleNamespace(meta_view=views.__getitem__)
        self.answers = answers
        self.asked: list[NodeId] = []

    def is_up(self, node: NodeId) -> bool:
        return True

    async def call(self, node: NodeId, request: RegPages) -> tuple[RegPaged, bytes]:
        self.asked.append(node)
        answer = self.answers[node]
        if answer is None:
            await asyncio.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        digest, whole = answer if isinstance(answer, tuple) else (answer, answer)
        (ask,) = request.asks
        if not ask.read:
            return RegPaged([Page(b"", whole=whole)]), b""
        names = ([b"k"], [b"l"]) if ask.tell else ([], [])
        return RegPaged([Page(digest, *names, whole=whole)]), b""


def _asked(answers: dict[NodeId, Any]) -> tuple[dict[int, Page], list[NodeId], float]:
    nodes = _Nodes(answers, {1: VIEWS[1]})

    async def main() -> tuple[dict[int, Page], float]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        pages = await agreed_pages(cast(Peers, nodes), WHAT, {1: b""}, begin + 5)
        return pages, loop.time() - begin

    (pages, took_s), _ = run(main, seed=1)
    return pages, nodes.asked, took_s


def test_one_round_of_a_majority_is_enough_where_all_hold_the_same() -> None:
    pages, asked, took_s = _asked(dict.fromkeys((A, B, C, D, E), b"x"))
    assert pages[1].names == [b"k"] and len(asked) == 3 and took_s < 0.1


def test_where_they_differ_elsewhere_in_the_partition_they_are_asked_of_the_page_itself() -> None:
    wholes = (b"1", b"", b"3", b"4", b"5")  # one has something on its way to the disk
    answers = dict(zip((A, B, C, D, E), ((b"x", whole) for whole in wholes), strict=True))
    pages, asked, took_s = _asked(answers)
    assert pages[1].names == [b"k"] and took_s < 0.1
    assert len(set(asked)) == 3 and len(asked) <= 5  # of the two that do not tell the page, each twice at most


def test_only_those_that_differ_are_asked_again() -> None:
    for odd in (A, B, C, D, E):
        pages, asked, _ = _asked({node: (b"x", b"odd" if node is odd else b"w") for node in (A, B, C, D, E)})
        assert pages[1].names == [b"k"] and len(set(asked)) == 3
        again = {node for node in asked if asked.count(node) == 2}
        assert again in ([{odd}, set(asked) - {odd}] if odd in asked else [set()])  # the latter if it told the page


def test_where_replicas_differ_nobody_waits_for_others() -> None:
    pages, _, took_s = _asked(dict(zip((A, B, C, D, E), (b"v", b"w", b"x", b"y", b"z"), strict=True)))
    assert pages == {} and took_s < 0.1


@pytest.mark.parametrize("bad", [Unreachable("it is away"), None], ids=["fails", "hangs"])
@pytest.mark.parametrize("pair", [(A, B), (B, C), (C, D), (D, E), (A, E), (B, D)])
def test_a_minority_that_fails_or_hangs_is_made_up_for_by_the_others(bad: Any, pair: tuple[NodeId, NodeId]) -> None:
    pages, asked, took_s = _asked(dict.fromkeys((A, B, C, D, E), b"x") | dict.fromkeys(pair, bad))
    assert pages[1].names == [b"k"] and took_s < 0.5
    assert len(asked) in (3, 5)


def test_without_a_majority_there_is_no_page_when_the_time_is_over() -> None:
    pages, _, took_s = _asked(dict.fromkeys((A, B, C, D, E), b"x") | dict.fromkeys((A, B, C)))
    assert pages == {} and took_s <= 5


def test_a_node_that_hangs_does_not_hold_up_what_is_decided() -> None:
    pages, _, took_s = _asked({A: b"v", B: b"w", C: b"x", D: b"y", E: None})
    assert pages == {} and took_s < 0.5

from objstore.engine.placing import Placer
from objstore.model.errors import InsufficientStorage, QuorumLost
from objstore.model.ids import NodeId


def nodes(text: str) -> list[NodeId]:
    return [NodeId(name) for name in text.split()]


def test_owners_take_their_own_shards() -> None:
    placer = Placer(nodes("a b c"), nodes("d e"), lambda _: True)
    assert [placer.first(i) for i in range(3)] == ["a", "b", "c"]


def test_first_live_handoff_stands_in_for_a_dead_owner() -> None:
    placer = Placer(nodes("a b c"), nodes("d e f"), lambda node: node not in "bd")
    assert [placer.first(i) for i in range(3)] == ["a", "e", "c"]


def test_no_node_gets_two_shards() -> None:
    placer = Placer(nodes("a b c"), nodes("d"), lambda node: node not in "ab")
    assert sorted(str(placer.first(i)) for i in range(3)) == ["None", "c", "d"]


def test_failed_node_is_never_given_again() -> None:
    placer = Placer(nodes("a b"), nodes("c d"), lambda _: True)
    assert placer.first(0) == "a"
    assert placer.after_failure(NodeId("a")) == "c"
    assert placer.after_failure(NodeId("c")) == "d"
    assert placer.after_failure(NodeId("d")) is None


def test_when_no_node_is_left_it_is_said_whether_that_is_for_lack_of_room() -> None:
    placer = Placer(nodes("a b"), nodes("c"), lambda node: node == "a", lambda node: node == "c")
    assert placer.first(1) is None
    assert isinstance(placer.why_none(), InsufficientStorage) and "1 nodes are full" in str(placer.why_none())
    assert isinstance(Placer(nodes("a b"), nodes("c"), lambda node: node == "a").why_none(), QuorumLost)

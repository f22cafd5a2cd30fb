"""A scan settles only what a majority agrees on; tombstones and gaps make a name disputed."""

from objstore.model.clock import Ballot
from objstore.model.ids import NodeId
from objstore.register.scan import agreed, digest_of, merge
from objstore.wire.messages import Page, RegScanned

SETS = (tuple(NodeId(name) for name in "abcde"),)


def page(rows: list[tuple[bytes, int, bytes]], more: bool = False) -> RegScanned:
    ballots = b"".join(Ballot(number, 1).pack() for _, number, _ in rows)
    return RegScanned([row[0] for row in rows], ballots, [row[2] for row in rows], [], more)


def merged(**pages: RegScanned) -> tuple[list[tuple[bytes, bytes | None]], bytes]:
    return tuple(merge(SETS, {NodeId(name): one for name, one in pages.items()}))  # type: ignore[return-value]


def test_agreement_of_a_majority_settles() -> None:
    one = page([(b"k", 5, b"shown")])
    assert merged(a=one, b=one, c=one) == ([(b"k", b"shown")], b"")


def test_name_missing_on_one_of_three_is_disputed() -> None:
    one = page([(b"k", 5, b"shown")])
    assert merged(a=one, b=one, c=page([])) == ([(b"k", None)], b"")


def test_tombstone_on_one_replica_is_disputed() -> None:
    nothing = page([])
    assert merged(a=page([(b"k", 9, b"")]), b=nothing, c=nothing)[0] == [(b"k", None)]


def test_four_answers_of_which_three_agree_settle() -> None:
    one = page([(b"k", 5, b"shown")])
    assert merged(a=one, b=one, c=one, d=page([(b"k", 3, b"older")]))[0] == [(b"k", b"shown")]


def test_higher_ballot_of_one_is_disputed_even_against_a_majority() -> None:
    one = page([(b"k", 5, b"shown")])
    assert merged(a=one, b=one, c=one, d=page([(b"k", 7, b"newer")]))[0] == [(b"k", None)]


def test_only_the_range_covered_by_every_page_counts() -> None:
    short = page([(b"a", 1, b"x")], more=True)
    long = page([(b"a", 1, b"x"), (b"b", 1, b"y")])
    names, until = merged(a=short, b=long, c=long)
    assert names == [(b"a", b"x")] and until == b"a\x00"


def test_joint_sets_both_need_a_majority() -> None:
    sets = (tuple(map(NodeId, "abc")), tuple(map(NodeId, "def")))
    full, empty = page([(b"k", 5, b"shown")]), page([])
    pages = {NodeId(n): full for n in "ab"} | {NodeId(n): empty for n in "de"}
    assert merge(sets, pages).names == [(b"k", None)]
    pages = {NodeId(n): full for n in "abde"}
    assert merge(sets, pages).names == [(b"k", b"shown")]


def test_a_page_is_agreed_on_by_the_digests_of_a_majority_with_its_teller() -> None:
    told, same, other, none = Page(b"x", [b"k"], [b"shown"]), Page(b"x"), Page(b"y"), Page(b"")
    a, b, c, d, e = map(NodeId, "abcde")
    assert agreed(SETS, {a: told, b: same, c: same}, [a]) is told
    assert agreed(SETS, {a: told, b: same, c: same, d: other, e: other}, [a]) is told
    assert agreed(SETS, {a: told, b: same}, [a]) is None
    assert agreed(SETS, {a: told, b: same, c: other}, [a]) is None
    assert agreed(SETS, {a: told, b: other, c: other, d: other}, [a]) is None  # nobody told what they agree on
    assert agreed(SETS, {a: same, b: same, c: same}, []) is None
    assert agreed(SETS, {a: Page(b""), b: none, c: none}, [a]) is None  # no page at all, of any
    second = Page(b"y", [], [])
    assert agreed(SETS, {a: told, b: second, c: other, d: other}, [a, b]) is second


def test_whoever_holds_the_same_in_the_whole_partition_vouches_for_any_page_of_it() -> None:
    told = Page(b"x", [b"k"], [b"shown"], whole=b"w")
    same, both, other, none = Page(b"", whole=b"w"), Page(b"x", whole=b"v"), Page(b"", whole=b"v"), Page(b"")
    a, b, c, d, e = map(NodeId, "abcde")
    assert agreed(SETS, {a: told, b: same, c: same}, [a]) is told
    assert agreed(SETS, {a: told, b: same, c: both}, [a]) is told  # the page is the same, though not the partition
    assert agreed(SETS, {a: told, b: same, c: other, d: none, e: other}, [a]) is None
    busy = Page(b"x", [b"k"], [b"shown"])
    assert agreed(SETS, {a: busy, b: none, c: none}, [a]) is None  # nothing is not the same as nothing
    assert agreed(SETS, {a: busy, b: same, c: same}, [a]) is None
    long = Page(b"", whole=b"w")  # it had no room in the reply
    assert agreed(SETS, {a: long, b: same, c: same}, [a]) is None


def test_joint_sets_both_need_a_majority_of_digests() -> None:
    sets = (tuple(map(NodeId, "abc")), tuple(map(NodeId, "def")))
    told, same, other = Page(b"x", [b"k"], [b"shown"]), Page(b"x"), Page(b"y")
    pages = {NodeId("a"): told} | {NodeId(n): same for n in "bd"}
    assert agreed(sets, pages, [NodeId("a")]) is None
    assert agreed(sets, pages | {NodeId("e"): other}, [NodeId("a")]) is None
    assert agreed(sets, pages | {NodeId("e"): same}, [NodeId("a")]) is told


def test_digests_depend_on_every_name_ballot_and_boundary() -> None:
    one, two = b"1" * 16, b"2" * 16
    digests = [
        digest_of(names, ballots, more)
        for names, ballots in (
            ([], []),
            ([b"ab", b"c"], [one, two]),
            ([b"a", b"bc"], [one, two]),
            ([b"ab", b"c"], [two, one]),
            ([b"ab"], [one]),
            ([one + b"ab"], [two]),
            ([two + b"ab"], [one]),
        )
        for more in (False, True)
    ]
    assert len(set(digests)) == len(digests) and {len(digest) for digest in digests} == {16}

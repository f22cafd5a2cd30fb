"""The inventory kept up to date step by step equals one made from scratch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.cluster import ClusterMap, ErasureCode, Node, View
from objstore.model.ids import BlobId, NodeId
from objstore.model.manifest import BlobRef, FragmentId
from objstore.placement.layout import compute_layout
from objstore.placement.topology import Topology
from objstore.repair.inventory import Inventory
from objstore.repair.record import Record
from objstore.repair.redundancy import Copy, replica_level, segment_level
from objstore.repair.tally import Harm

CODE = ErasureCode(2, 1)
NODES = tuple(NodeId(letter * 16) for letter in "abcd")
BITS = 2


def topology(*out: NodeId) -> Topology:
    nodes = tuple(Node(node, node[0], "z", 1) for node in NODES)
    view = View(1 + len(out), compute_layout(nodes, CODE, BITS), out)
    return Topology(ClusterMap("c" * 32, CODE, BITS, "zfec", nodes, view))


MAPS = (topology(), topology(NODES[0]))
BLOBS = tuple(BlobRef(BlobId(bytes((i,)) * 16), 90 + 60 * i, "zfec", 2, 1, 16, 100) for i in range(3))
FRAGMENTS = [FragmentId(b.id, s, shard).pack() for b in BLOBS for s in range(b.segments) for shard in range(3)]
KEYS = tuple(bytes(16) + b"\x01key%d" % i for i in range(3))

steps = st.one_of(
    st.tuples(st.just("held"), st.sampled_from(NODES), st.sets(st.sampled_from(FRAGMENTS))),
    st.tuples(st.just("record"), st.sampled_from(KEYS), st.sets(st.sampled_from(BLOBS), max_size=2), st.booleans()),
    st.tuples(st.just("gone"), st.sampled_from(KEYS)),
    st.tuples(st.just("live"), st.sets(st.sampled_from(NODES)), st.sampled_from(MAPS)),
    st.tuples(st.just("replicas"), st.integers(0, 3), st.sets(st.sampled_from(KEYS))),
    st.tuples(st.just("judge"), st.integers(1, 4)),
    st.tuples(st.just("look"), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_counts_equal_a_count_from_scratch(script: list[tuple]) -> None:  # type: ignore[type-arg]
    inventory = Inventory(CODE)
    held: dict[NodeId, set[bytes]] = {node: set() for node in NODES}
    records: dict[bytes, Record] = {}
    live, top, replicas, lagging = set(NODES), MAPS[0], 3, set[bytes]()
    inventory.set_cluster(top, live)
    inventory.set_replicas(0, replicas, {})
    for step in script:
        match step:
            case ("held", node, fragments):
                held[node] = fragments
                for partition in range(1 << BITS):
                    mine = [f for f in sorted(fragments) if inventory.partition_of(f[:20]) == partition]
                    inventory.set_fragments(node, partition, b"".join(mine))
            case ("record", key, blobs, counted):
                records[key] = Record(b"b", counted, tuple(sorted(blobs, key=lambda b: b.id)))
                inventory.set_record(0, key, records[key])
            case ("gone", key):
                records.pop(key, None)
                inventory.set_record(0, key, None)
            case ("live", nodes, chosen):
                live, top = nodes, chosen
                inventory.set_cluster(top, live)
            case ("replicas", replicas, lagging):
                inventory.set_replicas(0, replicas, dict.fromkeys(lagging, 1))
            case ("judge", steps_done):
                inventory.judge(steps_done)
            case ("look", begins):
                (inventory.begin_look if begins else inventory.end_look)()
    inventory.end_look()
    while not inventory.is_judged:
        inventory.judge(1000)

    histogram = [0] * 4
    wanted: set[bytes] = set()
    for key, record in records.items():
        level = replica_level(replicas - (key in lagging), CODE)
        for blob in record.blobs:
            for number in range(blob.segments):
                segment = blob.id + number.to_bytes(4, "big")
                copies = {Copy(f[20], NODES.index(n)) for n in live for f in held[n] if f[:20] == segment}
                level = min(level, segment_level(copies, 2, 1, CODE))
                owners = top.data_owners(top.partition_of_blob(blob.id, number))
                stray = any(
                    Copy(shard, NODES.index(owner)) not in copies for shard, owner in enumerate(owners) if owner in live
                )
                if stray or len({copy.shard for copy in copies}) < 3 or len(copies) > 3:
                    wanted.add(segment)
        if record.counted:
            histogram[level] += 1
    assert inventory.tally.histogram == histogram
    agenda = set()
    while (segment := inventory.agenda.pop()) is not None:
        agenda.add(segment)
    assert agenda == wanted
    referred = {blob.id for record in records.values() for blob in record.blobs}
    assert all(inventory.knows(blob.id) == (blob.id in referred) for blob in BLOBS)
    for node in NODES:
        assert inventory.fragments_on(node) == (len(held[node]) if node in live else 0)


def test_a_blob_named_by_two_registers_is_judged_until_both_let_go() -> None:
    inventory = Inventory(CODE)
    inventory.set_cluster(MAPS[0], NODES)
    inventory.set_replicas(0, 3, {})
    for key in KEYS[:2]:
        inventory.set_record(0, key, Record(b"b", True, BLOBS[:1]))
    inventory.judge(100)
    assert inventory.tally.histogram == [2, 0, 0, 0]
    inventory.set_record(0, KEYS[0], None)
    inventory.judge(100)
    assert inventory.tally.histogram == [1, 0, 0, 0] and inventory.knows(BLOBS[0].id)
    inventory.set_record(0, KEYS[1], Record(b"c"))
    inventory.judge(100)
    assert sum(inventory.tally.histogram) == 0 and not inventory.flaws and not inventory.knows(BLOBS[0].id)


def test_what_repair_notes_counts_before_the_next_listing() -> None:
    inventory = Inventory(CODE)
    inventory.set_cluster(MAPS[0], NODES)
    inventory.set_replicas(0, 3, {})
    inventory.set_record(0, KEYS[0], Record(b"b", True, BLOBS[:1]))
    segment = BLOBS[0].id + bytes(4)
    partition = inventory.partition_of(segment)
    before = inventory.noted(NODES[0], partition)
    for shard, owner in enumerate(MAPS[0].data_owners(partition)):
        inventory.note_stored(owner, partition, segment + bytes((shard,)))
    inventory.judge(100)
    assert inventory.tally.histogram == [0, 0, 0, 1]
    assert inventory.tally.restored == 0 and not inventory.tally.harmed()
    assert sum(inventory.noted(node, partition) for node in NODES) == before + 3


def test_an_object_is_rehomed_when_its_shard_is_at_home_and_not_when_its_home_goes_away() -> None:
    inventory = Inventory(CODE)
    inventory.set_cluster(MAPS[0], NODES)
    inventory.set_replicas(0, 3, {})
    inventory.set_record(0, KEYS[0], Record(b"b", True, BLOBS[:1]))
    segment = BLOBS[0].id + bytes(4)
    partition = inventory.partition_of(segment)
    owners = MAPS[0].data_owners(partition)
    elsewhere = next(node for node in NODES if node not in owners)
    for shard, node in enumerate((elsewhere, *owners[1:])):
        inventory.note_stored(node, partition, segment + bytes((shard,)))
    inventory.judge(100)
    found = [(inventory.tally.count(Harm.MISPLACED), inventory.tally.rehomed)]
    for live in ([node for node in NODES if node != owners[0]], NODES):
        inventory.set_cluster(MAPS[0], live)
        inventory.judge(100)
        found.append((inventory.tally.count(Harm.MISPLACED), inventory.tally.rehomed))
    inventory.note_stored(owners[0], partition, segment + bytes(1))
    inventory.judge(100)
    assert [*found, (inventory.tally.count(Harm.MISPLACED), inventory.tally.rehomed)] == [
        (1, 0),
        (0, 0),
        (1, 0),
        (0, 1),
    ]


def with_a_silent_owner(absent: tuple[tuple[int, int], ...] = ()) -> tuple[Inventory, BlobRef, int, NodeId]:
    """The owner of shard 1 does not answer; the others hold theirs."""
    ref = BlobRef(BLOBS[0].id, 90, "zfec", 2, 1, 16, 100, absent)
    inventory = Inventory(CODE)
    inventory.set_cluster(MAPS[0], NODES)
    partition = inventory.partition_of(ref.id + bytes(4))
    owners = MAPS[0].data_owners(partition)
    inventory.set_cluster(MAPS[0], set(NODES) - {owners[1]})
    for shard in (0, 2):
        inventory.set_fragments(owners[shard], partition, ref.id + bytes(4) + bytes((shard,)))
    return inventory, ref, partition, owners[1]


def expected_back(inventory: Inventory, ref: BlobRef, silent: NodeId) -> dict[int, NodeId]:
    view = inventory.view(ref.id + bytes(4), [silent], [silent])
    assert view is not None
    return dict(view.held_by_silent)


def test_a_silent_home_that_was_not_listed_yet_may_hold_its_shard() -> None:
    inventory, ref, _, silent = with_a_silent_owner()
    inventory.set_record(0, KEYS[0], Record(b"b", True, (ref,)))
    assert expected_back(inventory, ref, silent) == {1: silent}


def test_a_silent_home_whose_listing_lacks_the_shard_does_not_hold_it() -> None:
    inventory, ref, partition, silent = with_a_silent_owner()
    inventory.set_record(0, KEYS[0], Record(b"b", True, (ref,)))
    inventory.set_fragments(silent, partition, b"")
    assert expected_back(inventory, ref, silent) == {}
    inventory.set_fragments(silent, partition, ref.id + bytes(4) + b"\x01")
    assert expected_back(inventory, ref, silent) == {1: silent}


def test_a_listing_says_nothing_of_a_blob_that_came_later() -> None:
    inventory, ref, partition, silent = with_a_silent_owner()
    inventory.set_fragments(silent, partition, b"")
    inventory.set_record(0, KEYS[0], Record(b"b", True, (ref,)))
    assert expected_back(inventory, ref, silent) == {1: silent}


def test_what_repair_stored_is_no_listing() -> None:
    inventory, ref, partition, silent = with_a_silent_owner()
    inventory.set_record(0, KEYS[0], Record(b"b", True, (ref,)))
    inventory.note_stored(silent, partition, BLOBS[1].id + bytes(5))
    assert expected_back(inventory, ref, silent) == {1: silent}


def test_a_shard_that_was_never_written_is_not_expected_from_a_silent_home() -> None:
    inventory, ref, _, silent = with_a_silent_owner(absent=((0, 1),))
    inventory.set_record(0, KEYS[0], Record(b"b", True, (ref,)))
    assert expected_back(inventory, ref, silent) == {}


def test_only_nodes_that_can_make_a_segment_readable_are_its_rescuers() -> None:
    inventory, ref, partition, silent = with_a_silent_owner()
    inventory.set_record(0, KEYS[0], Record(b"b", True, (ref,)))
    first, _, last = MAPS[0].data_owners(partition)
    segment = ref.id + bytes(4)
    inventory.set_fragments(first, partition, b"")
    assert inventory.rescuers(segment) == {silent}, "it was not listed yet"
    inventory.set_fragments(silent, partition, b"")
    assert inventory.rescuers(segment) == frozenset()
    inventory.set_fragments(silent, partition, segment + b"\x01")
    assert inventory.rescuers(segment) == {silent}
    inventory.set_fragments(last, partition, b"")
    assert inventory.rescuers(segment) == frozenset(), "one shard of two that are needed"


def test_an_object_that_a_look_has_just_met_is_not_judged_before_its_listings_are_read() -> None:
    inventory, blob, key = Inventory(CODE), BLOBS[0], KEYS[0]
    inventory.set_cluster(MAPS[0], NODES)
    inventory.set_replicas(0, 3, {})
    inventory.begin_look()
    inventory.set_record(0, key, Record(b"b", True, (blob,)))
    inventory.judge(1000)  # repair has stored something meanwhile, and wants it judged
    assert inventory.is_judged and not inventory.flaws and inventory.tally.verdict(key) is None
    inventory.end_look()
    inventory.judge(1000)
    assert inventory.flaws and inventory.tally.verdict(key) is not None, "no listing told of it: now it is damaged"

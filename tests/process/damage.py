"""What dying disks and careless hands do to the volumes of a node, and the look through all of them that finds it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from objstore.codec.envelope import encode_header, envelope_length
from objstore.local.folder import Folder
from objstore.model.cluster import decode_map, decode_node_lease
from objstore.model.errors import Corrupt, NotFound
from objstore.rpc.blocking import BlockingClient
from objstore.testing.cluster import LocalCluster
from objstore.testing.damage import envelopes_of
from objstore.wire.messages import CoEntries, CoRange, FragList, FragListed, FragVerify

FRAGMENT_BYTES = 21
PAGE = 4096


def volumes(data: Path) -> list[Path]:
    """Of a node's data folder; those that hold something."""
    return [path for path in sorted((data / "volumes").glob("*.vol")) if path.stat().st_size]


def rot(path: Path, chance: random.Random, share: float = 1.0) -> int:
    """Flip one bit in that share of the envelopes in a volume, anywhere in them; how many."""
    places = [place for place in envelopes_of("", path) if chance.random() < share]
    with path.open("r+b") as file:
        for place in places:
            start = place.body - len(encode_header(place.header))
            at = start + chance.randrange(envelope_length(place.header))
            file.seek(at)
            old = file.read(1)[0]
            file.seek(at)
            file.write(bytes((old ^ 1 << chance.randrange(8),)))
    return len(places)


def cut(path: Path, chance: random.Random) -> None:
    """Shorten a volume, as a file system does that forgot the end of a file."""
    with path.open("r+b") as file:
        file.truncate(chance.randrange(path.stat().st_size))


def swap(one: Path, other: Path) -> None:
    """Two files under each other's name. Their nodes should not run."""
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


# --- finding it ---------------------------------------------------------------------------------------------


def scrub(cluster: LocalCluster, *names: str) -> int:
    """Have these nodes (without names: all) verify every fragment; how many were damaged, and are in quarantine now."""
    return sum(_each_fragment(cluster, names, _verify))


def count(cluster: LocalCluster, *names: str) -> int:
    """The fragments that these nodes serve."""
    return sum(_each_fragment(cluster, names, lambda client, fragment: 1))


def _verify(client: BlockingClient, fragment: bytes) -> int:
    try:
        client.call(FragVerify(fragment))
    except Corrupt:
        return 1
    except NotFound:
        pass  # deleted since it was listed, or found damaged before
    return 0


def _each_fragment(
    cluster: LocalCluster, names: Collection[str], look: Callable[[BlockingClient, bytes], int]
) -> Iterator[int]:
    state = Folder(cluster.folder).running()
    with BlockingClient(state.coordinator, state.cluster_secret.encode(), "") as client:
        reply, _ = client.call(CoRange(prefix=""))
    assert isinstance(reply, CoEntries)
    records = dict(zip(reply.keys, reply.values, strict=True))
    partitions = 1 << decode_map(records["map"]).partition_bits
    for lease in (decode_node_lease(value) for key, value in records.items() if key.startswith("nodes/")):
        if lease.name in names or not names:
            with BlockingClient(lease.address, state.cluster_secret.encode(), "", timeout_s=30.0) as client:
                for fragment in list(_fragments(client, partitions)):
                    yield look(client, fragment)


def _fragments(client: BlockingClient, partitions: int) -> Iterator[bytes]:
    for partition in range(partitions):
        after, more = b"", True
        while more:
            reply, _ = client.call(FragList(partition, after, PAGE))
            assert isinstance(reply, FragListed)
            page = [reply.fragments[i : i + FRAGMENT_BYTES] for i in range(0, len(reply.fragments), FRAGMENT_BYTES)]
            yield from page
            after, more = page[-1] if page else after, reply.more

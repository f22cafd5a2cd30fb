"""What must not be lost of a coordinator, in one plain file beside its store: who the cluster is, and its map.

Without the map nobody knows which nodes owned what, and a recovery would have to guess (`objstore.recovery`). So the
file is written before the store whenever one of its contents changes; a coordinator whose store is gone goes on from
it as after any restart. Its ceiling is the store's: no revision is ever given out twice, not even then.
"""

from __future__ import annotations

import contextlib

import msgspec
import xxhash

from objstore.cluster.port import CLUSTER_KEY, MAP_KEY
from objstore.model import formats
from objstore.model.errors import Fatal
from objstore.ports import Disk

FILE = "coordinator.json"
KEPT = (CLUSTER_KEY, MAP_KEY)
FORMAT = 1  # of all that is in the folder
_WHAT = "this folder of a coordinator"


class Kept(msgspec.Struct, frozen=True):
    """`rows`: coordinator key -> revision (8 bytes) and value, as in the store; in the order of the keys."""

    ceiling: int
    ttl_max_s: float
    rows: dict[str, bytes] = {}


class _File(msgspec.Struct, frozen=True):
    kept: Kept
    checksum: str
    format: int = FORMAT


def refuse_later(disk: Disk) -> None:
    """Blocking, before the store is opened. Raises Fatal when a later release made this folder."""
    if disk.exists(FILE):
        with contextlib.suppress(msgspec.DecodeError):  # of no concern while there is a store
            formats.decode_json(disk.read_file(FILE), _File, _WHAT, FORMAT)


class Mirror:
    """Blocking. `kept`: what is in the file; None when there is no file."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.kept: Kept | None = None

    def load(self) -> None:
        """Raises Fatal when the file is there and cannot be trusted."""
        if not self._disk.exists(FILE):
            return
        try:
            found = formats.decode_json(self._disk.read_file(FILE), _File, _WHAT, FORMAT)
        except msgspec.DecodeError as error:
            raise Fatal(_damaged(str(error))) from error
        if found.checksum != _checksum(found.kept):
            raise Fatal(_damaged("its checksum does not match"))
        self.kept = found.kept

    def save(self, kept: Kept) -> None:
        """Durable on return; no effect if it is there already."""
        if kept != self.kept:
            self.kept = None  # unknown, if writing fails
            content = _File(kept, _checksum(kept))
            self._disk.write_file(FILE, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
            self.kept = kept


def _checksum(kept: Kept) -> str:
    return str(xxhash.xxh3_64_hexdigest(msgspec.msgpack.encode(kept)))


def _damaged(why: str) -> str:
    return (
        f"The store of this coordinator was lost, and {FILE} beside it cannot be read ({why}). Bring it back from a "
        f"copy. If there is none the cluster map is lost: move {FILE} away, start the coordinator with the cluster's "
        "id (coordinator.cluster_id; it is in identity.json of every node), and then run: objstore recover"
    )

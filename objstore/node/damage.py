"""A damaged store is set aside, never deleted, and its owner begins a new life without it.

`mark` leaves a file that outlives the process. At the next start `set_aside` renames the folder of the store; a node
then takes a new id, indexes its volumes again and keeps its former journal (`objstore.node.identity`). A disk that
damages one store after the other would make an endless row of identities: after some of them a person must look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count

from objstore.model.errors import Fatal
from objstore.ports import Disk

logger = logging.getLogger(__name__)

KEPT_MAX = 3


def mark(disk: Disk, store: str, why: str) -> None:
    """The store is not to be opened again. Durable on return."""
    disk.write_file(f"{store}.damaged", why.encode() + b"\n")


def is_marked(disk: Disk, store: str) -> bool:
    return disk.exists(f"{store}.damaged")


def set_aside(disk: Disk, store: str, move: Callable[[str], None]) -> None:
    """`move` renames a marked store to the name it is given. Fatal when too many were set aside before."""
    marker = f"{store}.damaged"
    why = disk.read_file(marker).decode(errors="replace").strip()
    if disk.exists(store):  # else this was cut short, after the renaming
        kept = [name for name in disk.list_dir("") if name.startswith(f"{marker}-")]
        if len(kept) >= KEPT_MAX:
            raise Fatal(
                f"The store {store!r} in this data folder is damaged ({why}), and so were {len(kept)} before it: "
                f"{', '.join(kept)}. Check or replace this disk. If it is sound, or was, remove those folders and "
                "start again: nothing else needs them."
            )
        names = (f"{marker}-{number}" for number in count(1))
        name = next(name for name in names if name not in kept)
        move(name)
        disk.sync_dir("")
        logger.critical("The store %r is damaged (%s). It is kept as %s; we begin without it.", store, why, name)
    disk.unlink(marker)
    disk.sync_dir("")

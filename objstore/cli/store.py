"""Opens the key-value store of a data folder, after a process of its own has read all of it.

Reading damaged pages may end a process by SIGSEGV or SIGBUS, which nobody can catch; so the one that tries first is
a child. What it dies of, or finds, is damage: the store is set aside then (`objstore.node.damage`), and an empty one
takes its place. Anything else that keeps it from an answer (no memory, no permission) is not damage.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from objstore.adapters.disk import LocalDisk
from objstore.adapters.kv import LmdbKV
from objstore.model.errors import Fatal
from objstore.node import damage
from objstore.node.sealed import SealedKV
from objstore.ports import DamagedKV

_FOUND = 3  # exit code of the child: damaged, and stdout says how
_BY_READING = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def open_store(
    disk: LocalDisk, store: str, tables: Sequence[str], counted: Sequence[str], *, substitute: str = ""
) -> LmdbKV:
    """Blocking, once, at start, with the folder locked. `substitute`: a file without which there is no life after a
    damaged store."""
    path = os.path.join(disk.root, store)
    if not damage.is_marked(disk, store) and disk.exists(store) and (why := _damage_in(path, tables, counted)):
        damage.mark(disk, store, why)
    if damage.is_marked(disk, store):
        if substitute and not disk.exists(substitute):
            raise Fatal(
                f"The store in {path} is damaged, and {substitute} is gone. Bring one of them back from a copy."
            )
        damage.set_aside(disk, store, lambda name: disk.rename(store, name))
    return LmdbKV(path, tables)


def _damage_in(path: str, tables: Sequence[str], counted: Sequence[str]) -> str:
    """ "" when it is sound."""
    command = [sys.executable, "-P", "-m", __name__, path, ",".join(tables), ",".join(counted)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return ""
    if run.returncode == _FOUND:
        return run.stdout.strip()
    if -run.returncode in _BY_READING:
        return f"reading it ends in {signal.Signals(-run.returncode).name}"
    why = run.stderr.strip()[-1000:] or f"the check ended with {run.returncode}"
    raise Fatal(f"The store in {path} could not be checked: {why}")


def check(path: str, tables: Sequence[str], counted: Sequence[str]) -> None:
    """Raises DamagedKV."""
    kv = LmdbKV(path, tables)
    kv.walk()
    SealedKV(kv, counted).check()
    kv.close()


def main(path: str, tables: str, counted: str) -> int:
    try:
        check(path, tables.split(","), counted.split(","))
    except DamagedKV as found:
        print(found.strerror)
        return _FOUND
    except (Fatal, OSError, MemoryError) as error:
        print(str(error) or "there is not enough memory", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

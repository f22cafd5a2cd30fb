"""What a test may borrow from the machine: mounts and network namespaces of its own. Skipped where it may not."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest


def run(*command: str) -> None:
    """RuntimeError with what the program said."""
    found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if found.returncode:
        raise RuntimeError(f"{' '.join(command)}: {found.stderr.strip()}")


def refuse(why: str) -> NoReturn:
    """Root in CI must be able to; anyone else is told what was not tested."""
    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size, in memory."""
    path.mkdir()
    if os.geteuid() != 0:
        refuse("only root may mount a small file system: run this test as root")
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(path))
    except RuntimeError as error:
        refuse(f"this machine does not let its root mount a file system ({error})")
    try:
        yield path
    finally:
        run("umount", "--lazy", str(path))  # lazy: files of processes that were just killed


def need(program: str) -> None:
    if shutil.which(program) is None:
        refuse(f"{program} is not installed")

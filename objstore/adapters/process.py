"""What a process asks of its operating system about itself."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int = 0) -> bool:
    """From now on the kernel kills this process (SIGKILL) when its parent ends, however that ends.

    `parent`: the pid that started us, if known; one that has ended before this call is noticed by it. False: the
    parent is gone already, or this system cannot do it. Linux counts the *thread* that started us as the
    parent, so a supervisor must start its children from a thread that lives as long as it does.
    """
    if sys.platform != "linux":
        return False
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return False
    return os.getppid() == parent if parent else os.getppid() != 1

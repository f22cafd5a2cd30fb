"""Fresh buffers whose bytes are not cleared first, for whoever fills every one of them before anybody looks.

`bytearray(n)` writes n zeros: with the caches of a busy machine that costs nearly as much as receiving the bytes that
replace them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# A prototype of our own, as in `codec.isal`: it runs with the GIL held and raises MemoryError.
_new_bytearray: Callable[[None, int], bytearray] = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t
)(("PyByteArray_FromStringAndSize", ctypes.pythonapi))

_SMALL = 4096  # below this the call costs more than clearing


def fresh_buffer(length: int) -> bytearray:
    """Its contents are arbitrary, and may be those of anything that this process held: overwrite all of it."""
    return bytearray(length) if length < _SMALL else _new_bytearray(None, length)

"""The `isal` codec: Intel ISA-L called directly, a systematic Cauchy code at memory speed.

The library comes inside pyeclib's wheel, but pyeclib's own API is not used: it puts an 80-byte header of its own
in front of every fragment (our envelope says all of that already) and copies each cell on the way in and out. Here
ctypes hands ISA-L the addresses of the caller's cells and of fresh `bytes` objects, with the GIL released.

Invariants: every length and count is checked before the native call; buffers stay locked during it; the `bytes`
that it fills are seen by nobody else before it returns.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_char, c_int, c_ssize_t, c_ubyte, c_void_p, py_object
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objstore.codec.stripes import common_length
from objstore.ports import Buffer

_TABLE = 32  # bytes that ISA-L expands each coefficient to
_PATTERNS_MAX = 1024  # erasure patterns whose tables are kept; 4+2 has 15 of two losses


class _PyBuffer(ctypes.Structure):
    """Py_buffer, part of CPython's stable ABI since 3.11."""

    _fields_ = (
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_void_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    )


# Prototypes of our own: setting argtypes on the shared ctypes.pythonapi functions would reach other users of them.
# They run with the GIL held and raise the Python exception that the C function set.
_get_buffer = ctypes.PYFUNCTYPE(c_int, py_object, c_void_p, c_int)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, c_void_p)(("PyBuffer_Release", ctypes.pythonapi))
_new_bytes = ctypes.PYFUNCTYPE(py_object, c_void_p, c_ssize_t)(("PyBytes_FromStringAndSize", ctypes.pythonapi))
_bytes_address = ctypes.PYFUNCTYPE(c_void_p, py_object)(("PyBytes_AsString", ctypes.pythonapi))


@dataclass(frozen=True, slots=True)
class _Library:
    """The five functions of erasure_code.h and gf_vect_mul.h that are needed."""

    make_matrix: Callable[[Any, int, int], None]  # (out, rows, k)
    invert: Callable[[Any, Any, int], int]  # (in, out, n) -> 0, or -1 for a singular matrix
    multiply: Callable[[int, int], int]
    make_tables: Callable[[int, int, Any, Any], None]  # (k, rows, matrix, out)
    apply: Callable[[int, int, int, Any, Any, Any], None]  # (length, k, rows, tables, sources, targets)


def _candidates() -> list[str]:
    """Where ISA-L may be: beside the installed pyeclib package, else wherever the system's loader looks."""
    spec = importlib.util.find_spec("pyeclib")  # does not import it
    places = (spec.submodule_search_locations if spec else None) or []
    bundled = [path for place in places for path in sorted(Path(place).parent.glob("pyeclib.libs/libisal*"))]
    return [*map(str, bundled), "libisal.so.2"]


@functools.cache
def _load() -> _Library | None:
    for name in _candidates():
        try:
            return _bind(ctypes.CDLL(name))
        except (OSError, AttributeError):  # not there, for another machine, or without one of the functions
            continue
    return None


def _bind(library: ctypes.CDLL) -> _Library:
    matrix = POINTER(c_ubyte)

    def function(name: str, result: Any, *arguments: Any) -> Any:
        bound = library[name]
        bound.restype, bound.argtypes = result, arguments
        return bound

    return _Library(
        make_matrix=function("gf_gen_cauchy1_matrix", None, matrix, c_int, c_int),
        invert=function("gf_invert_matrix", c_int, matrix, matrix, c_int),
        multiply=function("gf_mul", c_ubyte, c_ubyte, c_ubyte),
        make_tables=function("ec_init_tables", None, c_int, c_int, matrix, POINTER(c_char)),
        apply=function("ec_encode_data", None, c_int, c_int, c_int, POINTER(c_char), c_void_p, c_void_p),
    )


def isal_loads() -> bool:
    return _load() is not None


def _library() -> _Library:
    library = _load()
    assert library is not None, "get_codec offers isal only where it loads"
    return library


@functools.cache
def _generator(k: int, m: int) -> bytes:
    """k+m rows of k coefficients: the identity, then the Cauchy rows of the parity shards."""
    matrix = (c_ubyte * ((k + m) * k))()
    _library().make_matrix(matrix, k + m, k)
    return bytes(matrix)


def _tables(k: int, rows: bytes) -> ctypes.Array[c_char]:
    library, count = _library(), len(rows) // k
    tables = (c_char * (_TABLE * len(rows)))()
    library.make_tables(k, count, (c_ubyte * len(rows)).from_buffer_copy(rows), tables)
    return tables


@functools.cache
def _encode_tables(k: int, m: int) -> ctypes.Array[c_char]:
    return _tables(k, _generator(k, m)[k * k :])


@functools.lru_cache(maxsize=_PATTERNS_MAX)
def _rebuild_tables(k: int, m: int, have: tuple[int, ...], want: tuple[int, ...]) -> ctypes.Array[c_char]:
    """Coefficients that turn the k cells `have` into the cells `want`: rows of G times the inverse of G's rows `have`.

    Every k rows of a Cauchy generator are independent, so the inverse exists.
    """
    library, generator = _library(), _generator(k, m)
    square = b"".join(generator[shard * k : (shard + 1) * k] for shard in have)
    inverse = (c_ubyte * (k * k))()
    failed = library.invert((c_ubyte * (k * k)).from_buffer_copy(square), inverse, k)
    assert not failed and len(have) == k
    rows = bytearray()
    for shard in want:
        for column in range(k):
            total = 0
            for i in range(k):
                total ^= library.multiply(generator[shard * k + i], inverse[i * k + column])
            rows.append(total)
    return _tables(k, bytes(rows))


def _apply(tables: ctypes.Array[c_char], cells: Sequence[Buffer], length: int) -> list[bytes]:
    """One product of the coefficients in `tables` with the cells."""
    k = len(cells)
    rows = len(tables) // (_TABLE * k)
    views = (_PyBuffer * k)()
    size = ctypes.sizeof(_PyBuffer)
    locked = 0
    try:
        for cell in cells:
            _get_buffer(cell, byref(views, locked * size), 0)
            locked += 1
        sources = (c_void_p * k)(*(view.buf for view in views))
        results: list[bytes] = [_new_bytes(None, length) for _ in range(rows)]  # not initialised
        targets = (c_void_p * rows)(*map(_bytes_address, results))
        _library().apply(length, k, rows, tables, sources, targets)
        return results
    finally:
        for i in range(locked):
            _release_buffer(byref(views, i * size))


@dataclass(frozen=True, slots=True)
class IsalCodec:
    """See `objstore.codec.erasure.Codec`."""

    k: int
    m: int

    @property
    def name(self) -> str:
        return "isal"

    def encode(self, cells: Sequence[Buffer]) -> list[bytes]:
        length = common_length(cells, self.k)
        return _apply(_encode_tables(self.k, self.m), cells, length)

    def rebuild(self, cells: Mapping[int, Buffer], want: Sequence[int]) -> dict[int, bytes]:
        have = tuple(sorted(cells)[: self.k])
        used = [cells[shard] for shard in have]
        length = common_length(used, self.k)
        lost = tuple(shard for shard in want if shard not in cells)
        fresh = _apply(_rebuild_tables(self.k, self.m, have, lost), used, length) if lost else []
        rebuilt = dict(zip(lost, fresh, strict=True))
        return {shard: rebuilt[shard] if shard in rebuilt else bytes(cells[shard]) for shard in want}

"""Erasure coding the slow, obvious way: byte by byte over GF(2^8) with x^8+x^4+x^3+x^2+1, plain Gauss-Jordan.

Written from the definitions of the two codes, without looking at what the codecs under test produce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Matrix = list[list[int]]


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11D
        b >>= 1
    return product


INVERSE = [0] * 256
for _a in range(1, 256):
    for _b in range(1, 256):
        if multiply(_a, _b) == 1:
            INVERSE[_a] = _b


def power(base: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = multiply(result, base)
    return result


def product(left: Matrix, right: Matrix) -> Matrix:
    return [[_dot(row, [line[column] for line in right]) for column in range(len(right[0]))] for row in left]


def _dot(left: Sequence[int], right: Sequence[int]) -> int:
    total = 0
    for a, b in zip(left, right, strict=True):
        total ^= multiply(a, b)
    return total


def inverse(square: Matrix) -> Matrix:
    n = len(square)
    rows = [[*row, *(int(i == j) for j in range(n))] for i, row in enumerate(square)]
    for column in range(n):
        pivot = next(i for i in range(column, n) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = INVERSE[rows[column][column]]
        rows[column] = [multiply(scale, value) for value in rows[column]]
        for i in range(n):
            if i != column and rows[i][column]:
                factor = rows[i][column]
                rows[i] = [value ^ multiply(factor, rows[column][j]) for j, value in enumerate(rows[i])]
    return [row[n:] for row in rows]


def cauchy(k: int, m: int) -> Matrix:
    """ISA-L: identity, then 1 / (i xor j) for parity row i and data column j."""
    identity = [[int(i == j) for j in range(k)] for i in range(k)]
    return identity + [[INVERSE[i ^ j] for j in range(k)] for i in range(k, k + m)]


def vandermonde(k: int, m: int) -> Matrix:
    """zfec: row 0 is 1,0,0..; row r is the powers of 2^(r-1); made systematic by the inverse of its top."""
    rows = [[int(j == 0) for j in range(k)]]
    rows += [[power(power(2, r - 1), j) for j in range(k)] for r in range(1, k + m)]
    return product(rows, inverse(rows[:k]))


GENERATORS = {"isal": cauchy, "zfec": vandermonde}


def apply(rows: Matrix, cells: Sequence[bytes]) -> list[bytes]:
    return [bytes(_dot(row, column) for column in zip(*cells, strict=True)) for row in rows]


def encode(name: str, k: int, m: int, cells: Sequence[bytes]) -> list[bytes]:
    return apply(GENERATORS[name](k, m)[k:], cells)


def rebuild(name: str, k: int, m: int, cells: Mapping[int, bytes], want: Sequence[int]) -> dict[int, bytes]:
    generator = GENERATORS[name](k, m)
    have = sorted(cells)[:k]
    data = apply(inverse([generator[shard] for shard in have]), [cells[shard] for shard in have])
    return dict(zip(want, apply([generator[shard] for shard in want], data), strict=True))

"""Ranges against a naive model that works on lists of positions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.ranges import Slice, parse_copy_range, parse_range, part_slice

NUMBERS = st.integers(0, 30) | st.integers(10**20, 10**21)


def positions(found: Slice) -> list[int]:
    return list(range(found.offset, found.offset + found.length))


@settings(deadline=None)
@given(size=st.integers(0, 20), first=NUMBERS, last=NUMBERS | st.none())
def test_first_last_ranges(size: int, first: int, last: int | None) -> None:
    header = f"bytes={first}-{'' if last is None else last}"
    expected = [at for at in range(size) if at >= first and (last is None or at <= last)]
    if last is not None and last < first:
        assert parse_range(header, size) is None
    elif expected:
        found = parse_range(header, size)
        assert found is not None and positions(found) == expected
        assert found.content_range == f"bytes {expected[0]}-{expected[-1]}/{size}"
    else:
        with pytest.raises(S3Error) as caught:
            parse_range(header, size)
        assert caught.value.status == 416
        assert caught.value.headers["Content-Range"] == f"bytes */{size}"


@settings(deadline=None)
@given(size=st.integers(0, 20), suffix=NUMBERS)
def test_suffix_ranges(size: int, suffix: int) -> None:
    expected = list(range(size))[-suffix:] if suffix else []
    if expected:
        found = parse_range(f"bytes=-{suffix}", size)
        assert found is not None and positions(found) == expected
    else:
        with pytest.raises(S3Error):
            parse_range(f"bytes=-{suffix}", size)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "bytes=1--2", "bytes=١-٢"],
)
def test_what_is_no_single_range_means_the_whole_object(header: str | None) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize("header", ["BYTES=2-4", " bytes=2-4 ", "bytes = 2 - 4", "bytes=0002-4"])
def test_harmless_spellings_are_read(header: str) -> None:
    assert parse_range(header, 10) == Slice(2, 3, 10)


def test_ranges_of_a_copy_must_be_exact_and_inside_the_source() -> None:
    assert parse_copy_range(None, 10) == Slice(0, 10, 10)
    assert parse_copy_range("bytes=2-9", 10) == Slice(2, 8, 10)
    for header, code in (
        ("bytes=2-10", "InvalidArgument"),
        ("bytes=2-", "InvalidArgument"),
        ("bytes=-2", "InvalidArgument"),
        ("bytes=3-2", "InvalidArgument"),
        ("2-3", "InvalidArgument"),
    ):
        with pytest.raises(S3Error) as caught:
            parse_copy_range(header, 10)
        assert caught.value.code == code


def test_a_part_of_an_object() -> None:
    assert part_slice("1", 10, ()) == Slice(0, 10, 10)
    assert part_slice("1", 0, ()) == Slice(0, 0, 0)
    assert part_slice("3", 9, (4, 3, 2)) == Slice(7, 2, 9)
    for number, parts, code in (
        ("2", (), "InvalidPartNumber"),
        ("4", (4, 3, 2), "InvalidPartNumber"),
        ("0", (), "InvalidArgument"),
        ("10001", (), "InvalidArgument"),
        ("x", (), "InvalidArgument"),
    ):
        with pytest.raises(S3Error) as caught:
            part_slice(number, 9, parts)
        assert caught.value.code == code

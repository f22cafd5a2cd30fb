"""The form of a browser upload under any input: read alike however it is cut, or refused; nothing else."""

from __future__ import annotations

import base64
import contextlib
import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import post_policy
from gateway.s3.errors import S3Error
from gateway.s3.post_form import FormReader


@given(st.binary(max_size=600), st.lists(st.integers(0, 700), max_size=6))
def test_a_form_is_read_alike_however_it_is_cut(noise: bytes, cuts: list[int]) -> None:
    """Or refused alike."""
    head = b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--B\r\n'
    raw = head + b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + noise + b"\r\n--B--\r\n"

    def read(pieces: list[bytes]) -> tuple[object, ...]:
        reader, found = FormReader(b"B"), b""
        try:
            for piece in pieces:
                found += reader.feed(piece)
            reader.finish()
        except S3Error as error:
            return (error.code,)
        return reader.fields, reader.filename, reader.begins_at, found

    places = sorted({0, *(min(cut, len(raw)) for cut in cuts), len(raw)})
    whole = read([raw])
    assert read([raw[low:high] for low, high in pairwise(places)]) == whole
    assert read([raw[at : at + 1] for at in range(len(raw))]) == whole
    if b"\r\n--B" not in noise + b"\r\n--":
        assert whole[-1] == noise


@given(st.binary(max_size=400))
def test_no_bytes_make_a_form_anything_but_read_or_refused(raw: bytes) -> None:
    for start in (b"", b"--B\r\n", b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n'):
        with contextlib.suppress(S3Error):
            reader = FormReader(b"B")
            reader.feed(start + raw)
            reader.finish()


@given(st.one_of(st.text(max_size=200), st.recursive(st.none() | st.text() | st.integers() | st.floats(), st.lists)))
def test_no_policy_of_a_form_makes_anything_but_a_refusal(value: object) -> None:
    for given_as in (value, {"expiration": value, "conditions": [value]}, {"expiration": "2100-01-01T00:00:00Z",
                     "conditions": value}):  # fmt: skip
        raw = base64.b64encode(json.dumps(given_as).encode()).decode()
        with contextlib.suppress(S3Error):
            post_policy.check(post_policy.parse(raw), "bucket", {"key": "k"}, 0.0)

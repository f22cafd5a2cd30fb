"""aws-chunked: the published example, a reference signer, every split of the stream, and every way to break it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3.chunked import LINE_BYTES_MAX, ChunkDecoder
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import Auth, PayloadMode
from tests.unit.gateway_s3.reference_signer import ACCESS_KEY, DATE, Signer, unsigned_body

SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
CRC = "x-amz-checksum-crc32c"
SIGNED, SIGNED_TRAILER, UNSIGNED = (
    PayloadMode.SIGNED_CHUNKS,
    PayloadMode.SIGNED_CHUNKS_TRAILER,
    PayloadMode.UNSIGNED_TRAILER,
)


def decoder(mode: PayloadMode, length: int, *trailers: str, seed: str = SEED) -> ChunkDecoder:
    signer = Signer()
    auth = Auth(ACCESS_KEY, mode, "", DATE, signer.scope, seed, signer.key)
    return ChunkDecoder(mode, auth, length, frozenset(trailers))


def encoded(mode: PayloadMode, chunks: list[bytes], trailers: dict[str, str]) -> bytes:
    if mode is UNSIGNED:
        return unsigned_body(chunks, trailers)
    return Signer().signed_body(SEED, chunks, trailers if mode is SIGNED_TRAILER else None)


def decode(target: ChunkDecoder, body: bytes, cuts: list[int] | None = None) -> bytes:
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts or ())})
    data = b"".join(bytes(piece) for start, end in pairwise(edges) for piece in target.feed(body[start:end]))
    target.finish()
    return data


def refused(mode: PayloadMode, body: bytes, length: int, *trailers: str) -> str:
    with pytest.raises(S3Error) as caught:
        decode(decoder(mode, length, *trailers), body)
    return caught.value.code


def test_the_reference_signer_gives_the_published_signatures() -> None:
    body = Signer().signed_body(SEED, [b"a" * 65536, b"a" * 1024])
    for signature in (
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ):
        assert signature in body
    assert len(body) == 66824  # the Content-Length of the documentation


def test_the_published_example_of_66560_bytes_decodes() -> None:
    body = Signer().signed_body(SEED, [b"a" * 65536, b"a" * 1024])
    assert decode(decoder(SIGNED, 66560), body) == b"a" * 66560


def test_the_published_example_with_a_trailer_decodes() -> None:
    chunk = "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + "a" * 65536
    second = "\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + "a" * 1024
    last = "\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    trailer = (
        "x-amz-checksum-crc32c:sOO8/Q==\r\n"
        "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
    )
    for end in ("\r\n", ""):  # the documentation shows no empty line at the end
        target = decoder(SIGNED_TRAILER, 66560, CRC, seed=TRAILER_SEED)
        assert decode(target, (chunk + second + last + trailer + end).encode()) == b"a" * 66560
        assert target.trailers == {CRC: "sOO8/Q=="}


@settings(deadline=None)
@given(
    mode=st.sampled_from((SIGNED, SIGNED_TRAILER, UNSIGNED)),
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_any_chunks_under_any_splits_decode_to_the_same(
    mode: PayloadMode, chunks: list[bytes], cuts: list[int]
) -> None:
    trailers = {CRC: "AAAAAA=="} if mode.trailer else {}
    body = encoded(mode, chunks, trailers)
    target = decoder(mode, sum(map(len, chunks)), *trailers)
    assert decode(target, body, cuts) == b"".join(chunks)
    assert target.trailers == trailers


def test_byte_by_byte_is_fine_and_nothing_is_kept_back() -> None:
    body = encoded(UNSIGNED, [b"abc", b"defg"], {})
    target = decoder(UNSIGNED, 7)
    released = [b"".join(map(bytes, target.feed(body[at : at + 1]))) for at in range(len(body))]
    assert [piece for piece in released if piece] == [bytes([byte]) for byte in b"abcdefg"]
    target.finish()


@settings(max_examples=300, deadline=None)
@given(mode=st.sampled_from((SIGNED, SIGNED_TRAILER)), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_signed_body_goes_unnoticed(mode: PayloadMode, at: int, bit: int) -> None:
    trailers = {CRC: "AAAAAA=="} if mode.trailer else {}
    whole = b"some data" * 20
    body = bytearray(encoded(mode, [whole, b"more"], trailers))
    body[at % len(body)] ^= 1 << bit
    target = decoder(mode, len(whole) + 4, *trailers)
    try:
        data = decode(target, bytes(body))
    except S3Error:
        return
    assert data == whole + b"more" and target.trailers == trailers  # such as a hex digit in the other case


@settings(deadline=None)
@given(mode=st.sampled_from((SIGNED, SIGNED_TRAILER, UNSIGNED)), cut=st.integers(0, 10_000))
def test_a_truncated_body_is_incomplete(mode: PayloadMode, cut: int) -> None:
    trailers = {CRC: "AAAAAA=="} if mode.trailer else {}
    body = encoded(mode, [b"x" * 50, b"y" * 30], trailers)
    kept = body[: cut % (len(body) - 2)]  # at least three bytes short: all but the last CRLF would be everything
    assert refused(mode, kept, 80, *trailers) == "IncompleteBody"


@pytest.mark.parametrize("length", [0, 4, 6])
@pytest.mark.parametrize("mode", [SIGNED, UNSIGNED])
def test_a_body_of_another_length_than_announced_is_incomplete(mode: PayloadMode, length: int) -> None:
    assert refused(mode, encoded(mode, [b"12345"], {}), length) == "IncompleteBody"


def test_a_chunk_signed_with_another_key_or_out_of_order_is_refused() -> None:
    other = Signer(secret="other").signed_body(SEED, [b"12345"])
    assert refused(SIGNED, other, 5) == "SignatureDoesNotMatch"
    body = Signer().signed_body(SEED, [b"aaaaa", b"bbbbb"])
    start = body.index(b"bbbbb") - len(b"5;chunk-signature=\r\n") - 64
    first, second, last = body[:start], body[start : 2 * start], body[2 * start :]
    assert refused(SIGNED, second + first + last, 10) == "SignatureDoesNotMatch"


def test_a_wrong_trailer_signature_is_refused_and_a_missing_one_too() -> None:
    body = encoded(SIGNED_TRAILER, [b"12345"], {CRC: "AAAAAA=="})
    assert refused(SIGNED_TRAILER, body.replace(b"AAAAAA==", b"BBBBBB=="), 5, CRC) == "SignatureDoesNotMatch"
    without = body[: body.index(b"x-amz-trailer-signature")] + b"\r\n"
    assert refused(SIGNED_TRAILER, without, 5, CRC) == "IncompleteBody"


@pytest.mark.parametrize(
    ("trailers", "announced"),
    [({}, (CRC,)), ({CRC: "a"}, ()), ({"x-amz-meta-a": "b", CRC: "a"}, (CRC,)), ({CRC: "a"}, ("x-amz-checksum-sha1",))],
)
def test_just_the_announced_trailers_must_come(trailers: dict[str, str], announced: tuple[str, ...]) -> None:
    assert refused(UNSIGNED, unsigned_body([b"12345"], trailers), 5, *announced) == "MalformedTrailerError"


def test_a_trailer_twice_is_refused() -> None:
    body = unsigned_body([b"12345"], {CRC: "a"}).replace(b"\r\n\r\n", b"\r\n" + CRC.encode() + b":b\r\n\r\n")
    assert refused(UNSIGNED, body, 5, CRC) == "MalformedTrailerError"


@pytest.mark.parametrize(
    "body",
    [
        b"5\n12345\r\n0\r\n\r\n",
        b"0x5\r\n12345\r\n0\r\n\r\n",
        b"-5\r\n12345\r\n0\r\n\r\n",
        b"5 \r\n12345\r\n0\r\n\r\n",
        b"5;chunk-signature=00\r\n12345\r\n0\r\n\r\n",
        b"\r\n5\r\n12345\r\n0\r\n\r\n",
        b"512345\r\n0\r\n\r\n"[:2] * 200,
        b"4\r\n12345\r\n0\r\n\r\n",
        b"5\r\n12345\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
        b"5\r\n12345\r\n0\r\n\r\n\r\n\r\n",
    ],
)
def test_broken_framing_is_refused(body: bytes) -> None:
    assert refused(UNSIGNED, body, 5) == "IncompleteBody"


def test_a_chunk_header_without_end_is_refused_before_it_grows() -> None:
    target = decoder(UNSIGNED, 5)
    with pytest.raises(S3Error):
        for _ in range(LINE_BYTES_MAX + 1):
            target.feed(b"0")


def test_a_chunk_size_beyond_the_announced_length_is_refused_before_its_data() -> None:
    with pytest.raises(S3Error) as caught:
        decoder(UNSIGNED, 5).feed(b"ffffffffffffffff\r\n")
    assert caught.value.code == "IncompleteBody"


@pytest.mark.parametrize(
    "end",
    [
        b"x-amz-checksum-crc32c:AAAAAA==\n\r\n\r\n",  # a line feed after the value, then the line end
        b"x-amz-checksum-crc32c:AAAAAA==\r\n\r\n\r\n",
        b"x-amz-checksum-crc32c: AAAAAA==\r\n\r\n",
        b"X-Amz-Checksum-CRC32C:AAAAAA==\r\n\r\n",
        b"x-amz-checksum-crc32c:AAAAAA==\r\n",
    ],
)
def test_variants_of_the_end_that_sdks_send_are_accepted(end: bytes) -> None:
    target = decoder(UNSIGNED, 5, CRC)
    assert decode(target, b"5\r\n12345\r\n0\r\n" + end) == b"12345"
    assert target.trailers == {CRC: "AAAAAA=="}

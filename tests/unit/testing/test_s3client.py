"""The small S3 client signs as AWS does; its test data are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from objstore.testing import tree
from objstore.testing.s3client import S3Client


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("/b/k", ""),
        ("/b/a%20b/%C3%A4.bin", ""),
        ("/b", "list-type=2&prefix=x%2Fy"),
        ("/b/k", "partNumber=1&uploadId=u"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"data"])
@pytest.mark.parametrize("more", [{}, {"x-amz-copy-source": "/b/a", "If-Match": '"0f"'}])
def test_a_signature_is_the_one_that_botocore_makes(
    target: str, arguments: str, body: bytes, more: dict[str, str]
) -> None:
    client = S3Client("http://localhost:9000", "AKID", "secret", "us-east-1")
    mine = client._sign("PUT", target, arguments, body, more)
    url = f"http://localhost:9000{target}" + (f"?{arguments}" if arguments else "")
    request = AWSRequest("PUT", url, data=body, headers={"host": "localhost:9000", **more})
    request.context["timestamp"] = mine["x-amz-date"]
    request.headers["x-amz-date"] = mine["x-amz-date"]
    request.headers["x-amz-content-sha256"] = mine["x-amz-content-sha256"]
    oracle = S3SigV4Auth(Credentials("AKID", "secret"), "s3", "us-east-1")
    signature = oracle.signature(oracle.string_to_sign(request, oracle.canonical_request(request)), request)
    assert mine["authorization"].endswith(f"Signature={signature}")


def test_the_tree_has_hundreds_of_files_from_nothing_to_more_than_a_segment() -> None:
    files = tree.plan()
    sizes = [file.size for file in files]
    assert len({file.path for file in files}) == len(files) >= 200
    assert min(sizes) == 0 and max(sizes) >= 64 * tree.MIB


def test_content_follows_from_the_name_and_has_the_size() -> None:
    one, other = tree.TestFile("a", 1000), tree.TestFile("b", 1000)
    assert tree.content(one) == tree.content(one) != tree.content(other)
    assert len(tree.content(one)) == 1000


@pytest.mark.parametrize(
    ("chunks", "difference"),
    [([b"abc", b"def"], None), ([b"abcdef"], None), ([b"abX", b"def"], 2), ([b"abc", b"deX"], 5), ([b"abc"], 3),
     ([b"abc", b"defg"], 6), ([], 0)],
)  # fmt: skip
def test_the_first_wrong_byte_is_found(tmp_path: Path, chunks: list[bytes], difference: int | None) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abcdef")
    assert tree.first_difference(path, iter(chunks)) == difference

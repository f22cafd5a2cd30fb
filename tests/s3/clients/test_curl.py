"""curl: the way an object store is tried with nothing installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.s3.clients.programs import Client, program


def test_put_and_get_signed(client: Client, tree: Path, tmp_path: Path) -> None:
    env = client.environment
    curl = client.with_options(
        "--silent", "--show-error", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3",
        "--user", f"{env['AWS_ACCESS_KEY_ID']}:{env['AWS_SECRET_ACCESS_KEY']}",
    )  # fmt: skip
    big, url = tree / "big0.bin", f"{env['AWS_ENDPOINT_URL']}/{env['BUCKET']}/curl/file"
    digest = f"x-amz-content-sha256: {hashlib.sha256(big.read_bytes()).hexdigest()}"
    curl.run(program("curl"), "-H", digest, "--upload-file", str(big), url)
    empty = f"x-amz-content-sha256: {hashlib.sha256(b'').hexdigest()}"
    curl.run(program("curl"), "-H", empty, "--output", str(tmp_path / "back"), url)
    assert (tmp_path / "back").read_bytes() == big.read_bytes()

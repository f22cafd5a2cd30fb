"""s3cmd."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.s3.clients.programs import Client, contents, program


@pytest.fixture
def s3cmd(client: Client) -> Callable[..., str]:
    env = client.environment
    host = env["AWS_ENDPOINT_URL"].partition("://")[2]
    options = client.with_options(
        "--no-ssl", f"--host={host}", f"--host-bucket={host}", "--config=/dev/null", "--no-progress",
        f"--access_key={env['AWS_ACCESS_KEY_ID']}", f"--secret_key={env['AWS_SECRET_ACCESS_KEY']}",
    )  # fmt: skip
    return lambda *arguments: options.run(program("s3cmd"), *arguments)


def test_sync_there_and_back(s3cmd: Callable[..., str], bucket: str, tree: Path, tmp_path: Path) -> None:
    there, back = f"s3://{bucket}/t/", tmp_path / "back"
    s3cmd("sync", "--multipart-chunk-size-mb=5", f"{tree}/", there)
    assert "sub dir/deep/ä + b=c&d%20'e'.txt" in s3cmd("ls", "--recursive", there)
    back.mkdir()
    s3cmd("sync", there, f"{back}/")
    assert contents(back) == contents(tree)
    (tree / "empty").unlink()
    s3cmd("sync", "--delete-removed", f"{tree}/", there)
    assert "empty" not in s3cmd("ls", "--recursive", there)
    s3cmd("del", "--recursive", "--force", there)
    assert s3cmd("ls", "--recursive", there) == ""


def test_multipart_and_info(s3cmd: Callable[..., str], bucket: str, tree: Path, tmp_path: Path) -> None:
    big, key = tree / "big0.bin", f"s3://{bucket}/big"
    s3cmd("put", "--multipart-chunk-size-mb=5", "--add-header=x-amz-meta-who: me", str(big), key)
    info = s3cmd("info", key)
    assert str(big.stat().st_size) in info and "x-amz-meta-who" in info, info
    s3cmd("cp", key, f"s3://{bucket}/copy")
    s3cmd("mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved")
    s3cmd("get", f"s3://{bucket}/moved", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert s3cmd("du", f"s3://{bucket}").split()[0] == str(2 * big.stat().st_size)
    assert s3cmd("multipart", f"s3://{bucket}").count("\n") <= 2
    assert bucket in s3cmd("info", f"s3://{bucket}")


def test_buckets_and_policy(s3cmd: Callable[..., str], bucket: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",'
        f' "Resource": "arn:aws:s3:::{bucket}/*"}}]}}'
    )
    s3cmd("setpolicy", str(policy), f"s3://{bucket}")
    assert "s3:GetObject" in s3cmd("info", f"s3://{bucket}")
    s3cmd("delpolicy", f"s3://{bucket}")
    s3cmd("mb", f"s3://{bucket}-2")
    assert f"{bucket}-2" in s3cmd("ls")
    s3cmd("rb", f"s3://{bucket}-2")


def test_lifecycle(s3cmd: Callable[..., str], bucket: str, tmp_path: Path) -> None:
    url, rules = f"s3://{bucket}", tmp_path / "rules.xml"
    s3cmd("expire", "--expiry-days=30", "--expiry-prefix=old/", url)
    shown = s3cmd("getlifecycle", url)
    assert "<Days>30</Days>" in shown and "<Prefix>old/</Prefix>" in shown, shown
    rules.write_text(shown.replace("30", "31"))  # what it showed can be set again
    s3cmd("setlifecycle", str(rules), url)
    assert "<Days>31</Days>" in s3cmd("getlifecycle", url)
    assert "Expiration Rule: objects with key prefix 'old/' will expire in '31' day(s)" in s3cmd("info", url)
    s3cmd("dellifecycle", url)
    assert "Expiration Rule: none" in s3cmd("info", url)


def test_signurl(s3cmd: Callable[..., str], s3: Any, bucket: str) -> None:
    """It signs with SigV2 only."""
    s3.put_object(Bucket=bucket, Key="a b+c", Body=b"x")
    url = s3cmd("signurl", f"s3://{bucket}/a b+c", "+60").strip()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"x"
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(url.replace("a%20b", "a%20c"))
    with refused.value as answer:
        assert answer.code == 403

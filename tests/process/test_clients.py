"""Client programs that people use, on a cluster one of whose nodes is dead."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.config import Config

from objstore.testing.cluster import LocalCluster
from tests.meta.source import ROOT
from tests.process.conftest import program

pytestmark = pytest.mark.client
BIG = 11 * 1024 * 1024 + 5  # multipart for each of them


@pytest.fixture(scope="module")
def degraded() -> Iterator[LocalCluster]:
    with LocalCluster(8, "4+2", out_after=600) as cluster:
        cluster.wait_healthy(30)
        cluster.kill("n2")
        s3 = cluster.boto3_client()
        s3.create_bucket(Bucket="clients")
        s3.close()
        yield cluster


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "big.bin").write_bytes(hashlib.shake_128(b"big").digest(BIG))
    (folder / "sub dir" / "ä + b.txt").write_text("small")
    (folder / "empty").write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(cluster: LocalCluster, home: Path, name: str, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LC_ALL": "C.UTF-8",
        **cluster.env,
    }
    done = subprocess.run([program(name), *arguments], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_aws_cli(degraded: LocalCluster, files: Path, tmp_path: Path) -> None:
    run(degraded, tmp_path, "aws", "s3", "cp", "--recursive", "--quiet", str(files), "s3://clients/aws/")
    assert "aws/sub dir/ä + b.txt" in run(degraded, tmp_path, "aws", "s3", "ls", "--recursive", "s3://clients/aws/")
    run(degraded, tmp_path, "aws", "s3", "sync", "--quiet", "s3://clients/aws/", str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(files)


def test_rclone(degraded: LocalCluster, files: Path, tmp_path: Path) -> None:
    remote = f":s3,provider=Other,env_auth,endpoint='{degraded.endpoint}':clients/rclone"
    options = (
        "--config",
        str(tmp_path / "none"),
        "--s3-upload-cutoff",
        "6M",
        "--s3-chunk-size",
        "5M",
        "--retries",
        "1",
    )
    run(degraded, tmp_path, "rclone", "sync", *options, str(files), remote)
    run(degraded, tmp_path, "rclone", "check", "--download", *options, str(files), remote)


def test_s3cmd(degraded: LocalCluster, files: Path, tmp_path: Path) -> None:
    host = degraded.endpoint.partition("://")[2]
    options = ["--no-ssl", f"--host={host}", f"--host-bucket={host}", "--config=/dev/null"]
    options.append(f"--access_key={degraded.env['AWS_ACCESS_KEY_ID']}")
    options.append(f"--secret_key={degraded.env['AWS_SECRET_ACCESS_KEY']}")
    big = files / "big.bin"
    run(degraded, tmp_path, "s3cmd", *options, "put", "--multipart-chunk-size-mb=5", str(big), "s3://clients/s3cmd")
    assert "s3://clients/s3cmd" in run(degraded, tmp_path, "s3cmd", *options, "ls", "s3://clients/s3cmd")
    run(degraded, tmp_path, "s3cmd", *options, "get", "s3://clients/s3cmd", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_curl(degraded: LocalCluster, files: Path, tmp_path: Path) -> None:
    """The way an object store is tried with nothing installed."""
    env = degraded.env
    sign = ("--silent", "--show-error", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3",
            "--user", f"{env['AWS_ACCESS_KEY_ID']}:{env['AWS_SECRET_ACCESS_KEY']}")  # fmt: skip
    big, url = files / "big.bin", f"{degraded.endpoint}/clients/curl/file"
    digest = f"x-amz-content-sha256: {hashlib.sha256(big.read_bytes()).hexdigest()}"
    run(degraded, tmp_path, "curl", *sign, "-H", digest, "--upload-file", str(big), url)
    empty = f"x-amz-content-sha256: {hashlib.sha256(b'').hexdigest()}"
    run(degraded, tmp_path, "curl", *sign, "-H", empty, "--output", str(tmp_path / "back"), url)
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


@pytest.mark.parametrize("signing", [True, False], ids=["signed payload", "unsigned payload"])
@pytest.mark.parametrize("checksum", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME", None])
def test_boto3_in_every_payload_mode(degraded: LocalCluster, files: Path, signing: bool, checksum: str | None) -> None:
    config = Config(
        s3={"payload_signing_enabled": signing},
        request_checksum_calculation="when_supported" if checksum else "when_required",
        retries={"total_max_attempts": 1},
    )
    s3 = degraded.boto3_client(config=config)
    more = {"ChecksumAlgorithm": checksum} if checksum else {}
    data, key = (files / "big.bin").read_bytes()[:700_000], f"boto3/{signing}/{checksum}"
    s3.put_object(Bucket="clients", Key=key, Body=data, **more)
    assert s3.get_object(Bucket="clients", Key=key, ChecksumMode="ENABLED")["Body"].read() == data
    with (files / "big.bin").open("rb") as body:
        s3.upload_fileobj(body, "clients", f"{key}/multipart", ExtraArgs=more)
    assert s3.get_object(Bucket="clients", Key=f"{key}/multipart")["Body"].read() == (files / "big.bin").read_bytes()
    s3.close()


@pytest.mark.timeout(300)
def test_the_whole_s3_suite_holds_on_a_real_cluster(degraded: LocalCluster) -> None:
    """tests/s3 judges the gateway on an engine in memory; here the same tests judge all of it."""
    env = degraded.env
    given = f"{degraded.endpoint} {env['AWS_ACCESS_KEY_ID']} {env['AWS_SECRET_ACCESS_KEY']}"
    suite = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "tests/s3", "--deselect", "tests/s3/test_clients.py"],
        cwd=ROOT, env={**os.environ, "OBJSTORE_TEST_S3": given}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert suite.returncode == 0, suite.stdout[-5000:]

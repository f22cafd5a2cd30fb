"""Real client programs, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.s3.conftest import Endpoint
from tests.s3.local_gateway import REGION

pytestmark = pytest.mark.client
BIG = 9 * 1024 * 1024  # multipart for every client here


def run(program: str, *arguments: str, endpoint: Endpoint, home: Path) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": endpoint.access_key,
        "AWS_SECRET_ACCESS_KEY": endpoint.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run([path, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "big").write_bytes(os.urandom(BIG))
    (folder / "sub dir" / "ä + b.txt").write_text("small")
    (folder / "empty").write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_aws_cli_syncs_a_tree_there_and_back(s3_endpoint: Endpoint, bucket: str, tree: Path, tmp_path: Path) -> None:
    def aws(*arguments: str) -> str:
        return run("aws", "--endpoint-url", s3_endpoint.url, "s3", *arguments, endpoint=s3_endpoint, home=tmp_path)

    aws("sync", "--quiet", str(tree), f"s3://{bucket}/t")
    assert "sub dir/ä + b.txt" in aws("ls", "--recursive", f"s3://{bucket}")
    aws("sync", "--quiet", f"s3://{bucket}/t", str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(tree)
    aws("rm", "--quiet", "--recursive", f"s3://{bucket}")


def test_rclone_syncs_and_checks_a_tree(s3_endpoint: Endpoint, bucket: str, tree: Path, tmp_path: Path) -> None:
    remote = f":s3,provider=Other,env_auth,region={REGION},endpoint='{s3_endpoint.url}':{bucket}"
    options = ("--config", str(tmp_path / "none.conf"), "--s3-upload-cutoff", "6M", "--retries", "1")

    def rclone(*arguments: str) -> str:
        return run("rclone", *arguments, *options, endpoint=s3_endpoint, home=tmp_path)

    rclone("sync", str(tree), remote)
    rclone("check", "--download", str(tree), remote)
    assert "big" in rclone("lsf", "-R", remote)
    rclone("delete", remote)


def test_s3cmd_puts_lists_and_gets(s3_endpoint: Endpoint, bucket: str, tree: Path, tmp_path: Path) -> None:
    host = s3_endpoint.url.partition("://")[2]
    options = ["--no-ssl", f"--host={host}", f"--host-bucket={host}", f"--region={REGION}", "--config=/dev/null"]
    options += [f"--access_key={s3_endpoint.access_key}", f"--secret_key={s3_endpoint.secret_key}"]

    def s3cmd(*arguments: str) -> str:
        return run("s3cmd", *options, *arguments, endpoint=s3_endpoint, home=tmp_path)

    s3cmd("put", "--multipart-chunk-size-mb=5", str(tree / "big"), f"s3://{bucket}/big")
    s3cmd("put", str(tree / "sub dir" / "ä + b.txt"), f"s3://{bucket}/ä + b.txt")
    assert f"s3://{bucket}/ä + b.txt" in s3cmd("ls", f"s3://{bucket}")
    s3cmd("get", f"s3://{bucket}/big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tree / "big").read_bytes()
    s3cmd("info", f"s3://{bucket}/big")

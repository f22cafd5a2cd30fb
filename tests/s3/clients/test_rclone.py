"""rclone: synchronising, verifying, versions, copies on the server."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.s3.clients.programs import Client, contents, finished, make_tree, program


@pytest.fixture
def options(client: Client) -> Client:
    remote = {
        "RCLONE_CONFIG_OBJ_TYPE": "s3",
        "RCLONE_CONFIG_OBJ_PROVIDER": "Other",
        "RCLONE_CONFIG_OBJ_ENV_AUTH": "true",
        "RCLONE_CONFIG_OBJ_ENDPOINT": client.environment["AWS_ENDPOINT_URL"],
        "RCLONE_CONFIG_OBJ_REGION": "us-east-1",
        "RCLONE_S3_UPLOAD_CUTOFF": "6M",
        "RCLONE_S3_CHUNK_SIZE": "5M",
        "RCLONE_S3_COPY_CUTOFF": "6M",
        "RCLONE_RETRIES": "1",
    }
    return client.with_options(**remote)


@pytest.fixture
def rclone(options: Client) -> Callable[..., str]:
    return lambda *arguments: options.run(program("rclone"), "-q", *arguments)


def test_sync_and_check(rclone: Callable[..., str], bucket: str, tree: Path, tmp_path: Path) -> None:
    remote = f"obj:{bucket}/t"
    rclone("sync", str(tree), remote)
    rclone("check", "--download", str(tree), remote)
    rclone("check", str(tree), remote)  # by MD5: of what came in parts it is in the metadata
    (tree / "empty").unlink()
    (tree / "big0.bin").write_bytes(b"changed")
    rclone("sync", str(tree), remote)
    rclone("sync", remote, str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(tree)
    assert rclone("cat", "--offset", "2", "--count", "3", f"{remote}/big0.bin") == "ang"
    rclone("purge", f"obj:{bucket}")
    assert bucket not in rclone("lsd", "obj:")


def test_copy_on_the_server(rclone: Callable[..., str], bucket: str, tree: Path) -> None:
    rclone("copy", str(tree), f"obj:{bucket}/a")
    rclone("copy", f"obj:{bucket}/a", f"obj:{bucket}/b")  # the big one in parts
    rclone("moveto", f"obj:{bucket}/b/empty", f"obj:{bucket}/b/none")
    rclone("moveto", f"obj:{bucket}/b/none", f"obj:{bucket}/b/empty")
    rclone("check", "--download", str(tree), f"obj:{bucket}/b")


def test_versions(rclone: Callable[..., str], s3: Any, bucket: str, tmp_path: Path) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    file = tmp_path / "file.txt"
    for text in ("first", "second"):
        file.write_text(text)
        rclone("copyto", "--ignore-times", str(file), f"obj:{bucket}/file.txt")
    names = rclone("lsf", "--s3-versions", f"obj:{bucket}").split()
    assert len(names) == 2 and "file.txt" in names
    old = next(name for name in names if name != "file.txt")
    assert rclone("cat", "--s3-versions", f"obj:{bucket}/{old}") == "first"
    rclone("deletefile", f"obj:{bucket}/file.txt")
    assert rclone("lsf", f"obj:{bucket}") == "" and len(rclone("lsf", "--s3-versions", f"obj:{bucket}").split()) == 2


def test_presign_and_cleanup(rclone: Callable[..., str], s3: Any, bucket: str, tree: Path) -> None:
    rclone("copy", str(tree / "sub dir"), f"obj:{bucket}")
    with urllib.request.urlopen(rclone("link", "--expire", "1m", f"obj:{bucket}/small 0.txt").strip()) as answer:
        assert answer.read() == (tree / "sub dir" / "small 0.txt").read_bytes()
    s3.create_multipart_upload(Bucket=bucket, Key="left over")
    rclone("backend", "cleanup", "-o", "max-age=0s", f"obj:{bucket}")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_sync_while_a_node_dies(
    options: Client, bucket: str, tmp_path: Path, kill_a_node_during: Callable[..., None]
) -> None:
    tree = make_tree(tmp_path / "tree", big=1, small=40)
    limited = ("--bwlimit", "6M", "--transfers", "2")
    syncing = options.start(program("rclone"), "-q", "sync", *limited, str(tree), f"obj:{bucket}")
    kill_a_node_during(syncing)
    finished(syncing)
    options.run(program("rclone"), "-q", "check", "--download", str(tree), f"obj:{bucket}")

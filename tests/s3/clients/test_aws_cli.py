"""aws-cli, version 1 (the one that pip has)."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.s3.clients.programs import BIG, Client, contents, data, make_role, program


@pytest.fixture
def aws(client: Client) -> Callable[..., str]:
    return lambda *arguments: client.run(program("aws"), *arguments)


def test_sync_there_and_back(aws: Callable[..., str], s3: Any, bucket: str, tree: Path, tmp_path: Path) -> None:
    there, back = f"s3://{bucket}/t", tmp_path / "back"
    aws("s3", "sync", str(tree), there)
    assert "sub dir/deep/ä + b=c&d%20'e'.txt" in aws("s3", "ls", "--recursive", there)
    assert aws("s3", "sync", str(tree), there) == "", "nothing has changed, and yet it sends"
    aws("s3", "sync", there, str(back))
    assert contents(back) == contents(tree)
    (tree / "empty").unlink()
    aws("s3", "sync", "--delete", str(tree), there)
    keys = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert keys == {f"t/{name}" for name in contents(tree)}


def test_copy_move_and_remove(aws: Callable[..., str], s3: Any, bucket: str) -> None:
    body = data(BIG)
    s3.upload_fileobj(io.BytesIO(body), bucket, "a")
    aws("s3", "cp", f"s3://{bucket}/a", f"s3://{bucket}/b c")  # on the server, in parts
    aws("s3", "mv", f"s3://{bucket}/b c", f"s3://{bucket}/d/e")
    assert s3.get_object(Bucket=bucket, Key="d/e")["Body"].read() == body
    assert {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]} == {"a", "d/e"}
    aws("s3", "rb", "--force", f"s3://{bucket}")
    assert bucket not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


def test_presign(aws: Callable[..., str], client: Client, s3: Any, bucket: str) -> None:
    (client.home / ".aws").mkdir()
    (client.home / ".aws" / "config").write_text("[default]\ns3 =\n  signature_version = s3v4\n")
    s3.put_object(Bucket=bucket, Key="s", Body=b"a body")
    with urllib.request.urlopen(aws("s3", "presign", f"s3://{bucket}/s").strip()) as answer:
        assert answer.read() == b"a body"


def test_assume_role(aws: Callable[..., str], client: Client, s3: Any, bucket: str) -> None:
    """By hand, and as a profile does it by itself."""
    role = make_role(client, f"role-{bucket}")
    s3.put_object(Bucket=bucket, Key="s", Body=b"a body")
    asked = ("sts", "assume-role", "--role-arn", role.arn, "--role-session-name", "work", "--output", "json")
    found = json.loads(client.with_options(**role.user).run(program("aws"), *asked))["Credentials"]
    session = client.with_options(
        AWS_ACCESS_KEY_ID=found["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=found["SecretAccessKey"],
        AWS_SESSION_TOKEN=found["SessionToken"],
    )
    assert session.run(program("aws"), "s3", "cp", f"s3://{bucket}/s", "-") == "a body"
    of_role = ("--profile", "role")
    assert f":assumed-role/{role.name}/" in aws(*of_role, "sts", "get-caller-identity")
    assert aws(*of_role, "s3", "cp", f"s3://{bucket}/s", "-") == "a body"
    refused = client.start(program("aws"), *of_role, "s3", "rm", f"s3://{bucket}/s")
    assert "AccessDenied" in refused.communicate(timeout=60)[0] and refused.returncode == 1

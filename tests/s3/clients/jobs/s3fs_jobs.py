"""What programs do with s3fs (fsspec): run as `s3fs_jobs.py JOB`."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from typing import Any

import s3fs

BUCKET = os.environ["BUCKET"]
BODY = hashlib.shake_128(b"body").digest((11 << 20) + 5)


def filesystem(**options: Any) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        endpoint_url=os.environ["AWS_ENDPOINT_URL"], skip_instance_cache=True, use_listings_cache=False, **options
    )


def write_and_read() -> None:
    fs = filesystem(default_block_size=5 << 20)
    with fs.open(f"{BUCKET}/a/big", "wb") as file:  # in parts
        for start in range(0, len(BODY), 1 << 20):
            file.write(BODY[start : start + (1 << 20)])
    assert fs.info(f"{BUCKET}/a/big")["size"] == len(BODY)
    with fs.open(f"{BUCKET}/a/big", "rb", block_size=1 << 20) as file:
        file.seek(-9, 2)
        assert file.read() == BODY[-9:]
        file.seek(1_000_000)
        assert file.read(2_000_000) == BODY[1_000_000:3_000_000]
    assert fs.cat_file(f"{BUCKET}/a/big") == BODY
    assert fs.cat_ranges([f"{BUCKET}/a/big"] * 2, [0, 7], [5, 9]) == [BODY[:5], BODY[7:9]]
    with fs.open(f"{BUCKET}/a/text", "w") as file:
        file.write("one\n")
    with fs.open(f"{BUCKET}/a/text", "a") as file:
        file.write("two\n")
    assert fs.cat_file(f"{BUCKET}/a/text") == b"one\ntwo\n"
    with fs.open(f"{BUCKET}/a/big", "ab") as file:  # what is there becomes a part, by a copy on the server
        file.write(b"end")
    assert fs.cat_file(f"{BUCKET}/a/big") == BODY + b"end"


def tree() -> None:
    """Names: glob, find, walk, du, mv, cp, rm; folders that exist because something is in them."""
    fs = filesystem()
    for name in ("x/1.csv", "x/2.csv", "x/y/3.csv", "x/ä b+c", "z"):
        fs.pipe_file(f"{BUCKET}/{name}", name.encode())
    assert fs.glob(f"{BUCKET}/x/*.csv") == [f"{BUCKET}/x/1.csv", f"{BUCKET}/x/2.csv"]
    assert len(fs.glob(f"{BUCKET}/**/*.csv")) == 3
    assert fs.du(f"{BUCKET}/x") == sum(len(n.encode()) for n in ("x/1.csv", "x/2.csv", "x/y/3.csv", "x/ä b+c"))
    assert fs.isdir(f"{BUCKET}/x") and not fs.exists(f"{BUCKET}/x/nothing")
    assert [names for _, _, names in fs.walk(f"{BUCKET}/x")] == [["1.csv", "2.csv", "ä b+c"], ["3.csv"]]
    fs.mv(f"{BUCKET}/z", f"{BUCKET}/w")
    assert not fs.exists(f"{BUCKET}/z") and fs.cat_file(f"{BUCKET}/w") == b"z"
    fs.cp(f"{BUCKET}/x", f"{BUCKET}/moved", recursive=True)
    fs.rm(f"{BUCKET}/x", recursive=True)
    assert not fs.exists(f"{BUCKET}/x") and fs.cat_file(f"{BUCKET}/moved/ä b+c") == "x/ä b+c".encode()
    fs.put_file(__file__, f"{BUCKET}/moved/script")
    fs.get(f"{BUCKET}/moved", "down", recursive=True)
    with open("down/y/3.csv", "rb") as file:
        assert file.read() == b"x/y/3.csv"
    fs.rm(f"{BUCKET}/moved", recursive=True)
    assert fs.ls(BUCKET) == [f"{BUCKET}/w"]
    fs.mkdir(f"{BUCKET}-2")
    fs.rmdir(f"{BUCKET}-2")
    assert not fs.exists(f"{BUCKET}-2")


def metadata() -> None:
    fs = filesystem(version_aware=True, config_kwargs={"signature_version": "s3v4"})
    fs.make_bucket_versioned(BUCKET)
    path = f"{BUCKET}/k"
    fs.pipe_file(path, b"first")
    old = fs.info(path)["VersionId"]
    fs.pipe_file(path, b"second")
    assert fs.cat_file(path, version_id=old) == b"first" and len(fs.object_version_info(path)) == 2
    fs.put_tags(path, {"a": "b"})
    assert fs.get_tags(path) == {"a": "b"}
    fs.setxattr(path, copy_kwargs={"ContentType": "text/x"}, who="me")
    assert fs.getxattr(path, "who") == "me"
    with urllib.request.urlopen(fs.sign(path, expiration=60)) as answer:
        assert answer.read() == b"second"


if __name__ == "__main__":
    globals()[sys.argv[1]]()

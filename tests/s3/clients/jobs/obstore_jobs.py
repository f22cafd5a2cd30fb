"""What is done with obstore, the object_store of Rust that table formats build on: run as `obstore_jobs.py JOB`."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from collections.abc import Callable
from datetime import timedelta

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

BODY = hashlib.shake_128(b"body").digest((11 << 20) + 5)


def store(**options: str) -> S3Store:
    return S3Store(
        os.environ["BUCKET"],
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
        **options,  # type: ignore[arg-type]
    )


def refused(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"not refused with {kind}")


def transfer() -> None:
    s3 = store()
    obstore.put(s3, "a/big", BODY, chunk_size=5 << 20, use_multipart=True)
    assert bytes(obstore.get(s3, "a/big").bytes()) == BODY
    ranges = obstore.get_ranges(s3, "a/big", starts=[0, 5 << 20], ends=[2, (5 << 20) + 3])
    assert [bytes(part) for part in ranges] == [BODY[:2], BODY[5 << 20 : (5 << 20) + 3]]
    obstore.copy(s3, "a/big", "a/ä b")
    obstore.rename(s3, "a/ä b", "c")
    assert [entry["path"] for page in obstore.list(s3) for entry in page] == ["a/big", "c"]
    assert list(obstore.list_with_delimiter(s3)["common_prefixes"]) == ["a"]
    with urllib.request.urlopen(obstore.sign(s3, "GET", "c", timedelta(minutes=1))) as answer:
        assert answer.read() == BODY
    obstore.delete(s3, ["a/big", "c"])
    assert not list(obstore.list(s3))


def conditional() -> None:
    """How commits of a table are ordered: create once, replace what was seen, copy to where nothing is."""
    s3 = store(copy_if_not_exists="multipart")
    seen = obstore.put(s3, "log/1", b"first", mode="create")["e_tag"]
    refused(AlreadyExistsError, lambda: obstore.put(s3, "log/1", b"second", mode="create"))
    obstore.put(s3, "log/1", b"third", mode={"e_tag": seen})
    refused(PreconditionError, lambda: obstore.put(s3, "log/1", b"fourth", mode={"e_tag": seen}))
    obstore.copy(s3, "log/1", "log/2", overwrite=False)
    obstore.put(s3, "log/1", b"fifth")
    refused(AlreadyExistsError, lambda: obstore.copy(s3, "log/1", "log/2", overwrite=False))
    assert bytes(obstore.get(s3, "log/2").bytes()) == b"third"


if __name__ == "__main__":
    globals()[sys.argv[1]]()

"""What is done with OpenDAL: run as `opendal_jobs.py JOB`."""

from __future__ import annotations

import hashlib
import os
import sys

import opendal
from opendal.exceptions import ConditionNotMatch

BODY = hashlib.shake_128(b"body").digest((11 << 20) + 5)


def transfer() -> None:
    s3 = opendal.Operator(
        "s3",
        bucket=os.environ["BUCKET"],
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )
    s3.write("d/big", BODY, chunk=5 << 20, concurrent=3)
    assert s3.read("d/big") == BODY
    with s3.open("d/big", "rb") as file:
        file.seek(5 << 20)
        assert file.read(5) == BODY[5 << 20 : (5 << 20) + 5]
    s3.create_dir("d/e/")
    s3.write("d/ä x", b"1", if_not_exists=True)
    try:
        s3.write("d/ä x", b"2", if_not_exists=True)
    except ConditionNotMatch:
        pass
    else:
        raise AssertionError("what exists was created again")
    s3.copy("d/ä x", "d/e/y")
    assert sorted(entry.path for entry in s3.scan("d/")) == ["d/big", "d/e/", "d/e/y", "d/ä x"]
    assert sorted(entry.path for entry in s3.list("d/")) == ["d/big", "d/e/", "d/ä x"]
    s3.remove_all("d/")
    assert not list(s3.scan(""))


if __name__ == "__main__":
    globals()[sys.argv[1]]()

"""Who may do what: users, their access keys, and policies by name."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

ACCOUNT = "000000000001"  # there is one
USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/"
ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"


class User(msgspec.Struct, frozen=True, array_like=True):
    name: str
    created_ms: int
    policies: tuple[str, ...] = ()  # attached, by name
    disabled: bool = False


class AccessKey(msgspec.Struct, frozen=True, array_like=True):
    id: str
    user: str
    sealed: bytes  # the secret; see codec/secrets.py
    created_ms: int
    disabled: bool = False


class NamedPolicy(msgspec.Struct, frozen=True, array_like=True):
    name: str
    document: bytes  # JSON, as it was given
    modified_ms: int


class Principal(NamedTuple):
    """Who signed a request."""

    user: str = ""  # "": the root of the account, whose keys are in the configuration

    @property
    def arn(self) -> str:
        return USER_ARN + self.user if self.user else ROOT_ARN


class Identity(NamedTuple):
    """What an access key stands for at some moment."""

    secret: str
    user: str
    policies: tuple[tuple[str, bytes], ...]  # name, document


class BucketPolicy(msgspec.Struct, frozen=True, array_like=True):
    document: bytes


class PublicAccessBlock(msgspec.Struct, frozen=True, array_like=True):
    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict_buckets: bool = False


class BucketOwnership(msgspec.Struct, frozen=True, array_like=True):
    rule: str = "BucketOwnerEnforced"


_DOCUMENT = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[%s],"Resource":["arn:aws:s3:::*"]}]}'


def _built_in(*actions: str) -> bytes:
    return (_DOCUMENT % ",".join(f'"s3:{action}"' for action in actions)).encode()


_READ = ("GetObject*", "GetBucketLocation", "GetBucketVersioning", "ListBucket*", "ListAllMyBuckets")
_WRITE = ("PutObject", "PutObjectTagging", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts")
BUILT_IN: dict[str, bytes] = {
    "readonly": _built_in(*_READ),
    "writeonly": _built_in(*_WRITE),
    "readwrite": _built_in(*_READ, *_WRITE, "DeleteObjectVersion", "DeleteObjectTagging", "CreateBucket",
                           "DeleteBucket"),
    "admin": _built_in("*"),
}  # fmt: skip

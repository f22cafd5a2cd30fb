"""Who may do what: users, their access keys, roles that they may assume, and policies by name."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

ACCOUNT = "000000000001"  # there is one
USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/"
SESSION_ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/"
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


class Role(msgspec.Struct, frozen=True, array_like=True):
    name: str
    id: str  # AROA...; another role of the same name has another
    created_ms: int
    trusted: tuple[str, ...] = ()  # users that may assume it
    policies: tuple[str, ...] = ()  # attached, by name


class Principal(NamedTuple):
    """Who signed a request."""

    user: str = ""  # "", and no role: the root of the account, whose keys are in the configuration
    role: str = ""  # that was assumed; then there is no user
    role_id: str = ""
    session: str = ""  # name of the session of the role

    @property
    def is_root(self) -> bool:
        return not self.user and not self.role

    @property
    def arn(self) -> str:
        if self.role:
            return f"{SESSION_ARN}{self.role}/{self.session}"
        return USER_ARN + self.user if self.user else ROOT_ARN

    @property
    def issuer_arn(self) -> str:
        """Of the role behind a session, else that of the principal itself."""
        return ROLE_ARN + self.role if self.role else self.arn

    @property
    def id(self) -> str:
        """As policies know it: aws:userid."""
        return f"{self.role_id}:{self.session}" if self.role else self.user or ACCOUNT


class Identity(NamedTuple):
    """What an access key stands for at some moment."""

    secret: str
    user: str
    policies: tuple[tuple[str, bytes], ...]  # name, document


class RoleIdentity(NamedTuple):
    """What a role stands for at some moment."""

    id: str
    trusted: tuple[str, ...]
    policies: tuple[tuple[str, bytes], ...]


class Session(msgspec.Struct, frozen=True, array_like=True):
    """Temporary credentials: all that is known of them stands in their token (codec/session_tokens.py)."""

    access_key: str  # ASIA...
    secret: str
    issued_s: int
    expires_s: int
    parent: str  # the permanent access key behind it: without that key it ends
    proof: bytes  # of the secret of that key: with another secret it ends as well
    role: str = ""  # "": it acts as the user of `parent`
    role_id: str = ""
    name: str = ""
    policy: bytes = b""  # it may do no more than this allows; b"": whatever the role or user may


class BucketPolicy(msgspec.Struct, frozen=True, array_like=True):
    document: bytes


class PublicAccessBlock(msgspec.Struct, frozen=True, array_like=True):
    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict_buckets: bool = False


class BucketOwnership(msgspec.Struct, frozen=True, array_like=True):
    """A bucket that has no such record has this one: its default."""

    rule: str = "BucketOwnerEnforced"  # "": somebody deleted the controls

    @property
    def has_acls(self) -> bool:
        """Whether access control lists count in it."""
        return self.rule != "BucketOwnerEnforced"


class BucketAcl(msgspec.Struct, frozen=True, array_like=True):
    grants: str  # as gateway/s3/acls.py writes it


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

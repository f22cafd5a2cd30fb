"""RenameObject: what its headers say."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.s3.errors import S3Error
from gateway.s3.names import check_key
from gateway.s3.target import percent_decode

SOURCE = "x-amz-rename-source"
TOKEN = "x-amz-client-token"
HEADERS = " ".join((SOURCE, *(f"{SOURCE}-if-{name}" for name in (
    "match", "none-match", "modified-since", "unmodified-since")), TOKEN))  # fmt: skip


def rename_source(headers: Mapping[str, str], bucket: str) -> str:
    """The key: percent-encoded, alone or as /bucket/key. S3Error InvalidArgument."""
    header = headers.get(SOURCE, "")
    key = percent_decode(header)
    if key.startswith("/"):
        key = key[1:].removeprefix(f"{bucket}/")
    if not key:
        raise _invalid(SOURCE, header, f"{SOURCE} must be the key of the object to be renamed, percent-encoded.")
    check_key(key)
    return key


def client_token(headers: Mapping[str, str]) -> str:
    """ "" if there is none. S3Error InvalidArgument."""
    token = headers.get(TOKEN, "")
    if len(token) > 64 or not all("!" <= char <= "~" for char in token):
        raise _invalid(TOKEN, token, f"{TOKEN} has at most 64 printable ASCII characters.")
    return token


def _invalid(name: str, value: str, text: str) -> S3Error:
    return S3Error("InvalidArgument", text, extra={"ArgumentName": name, "ArgumentValue": value})

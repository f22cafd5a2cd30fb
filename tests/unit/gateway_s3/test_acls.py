"""Access control lists as text, headers and documents."""

from __future__ import annotations

import pytest

from gateway.s3 import acls, answers
from gateway.s3.acls import CANNED, GRANT_HEADERS, PERMISSIONS, PRIVATE, Grant
from gateway.s3.answers import Owner
from gateway.s3.errors import S3Error

OWNER = Owner("1" * 64, "me")


@pytest.mark.parametrize("name", CANNED)
def test_a_list_comes_back_from_its_text_and_from_its_document(name: str) -> None:
    grants = CANNED[name]
    assert acls.read(acls.text_of(grants)) == grants
    assert acls.parse(answers.acl(OWNER, grants), OWNER.id) == grants


def test_a_list_without_grants_is_not_that_of_everything() -> None:
    assert acls.read(acls.text_of(())) == ()
    assert acls.text_of(PRIVATE) == "" and acls.read("") == PRIVATE


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("permission", PERMISSIONS)
@pytest.mark.parametrize("granted", PERMISSIONS)
@pytest.mark.parametrize("grantee", ["owner", "all", "authenticated", "log-delivery"])
def test_who_may_what(grantee: str, granted: str, permission: str, signed: bool) -> None:
    reached = grantee == "all" or (grantee == "authenticated" and signed)
    expected = reached and granted in (permission, "FULL_CONTROL")
    assert acls.permits(acls.text_of((Grant(grantee, granted),)), permission, signed=signed) is expected


def test_grants_of_headers() -> None:
    value = f'id="{OWNER.id}", uri=http://acs.amazonaws.com/groups/global/AllUsers'
    found = acls.from_headers(dict.fromkeys(GRANT_HEADERS, value), OWNER.id, of_bucket=True)
    assert found is not None and set(found) == {Grant(who, what) for who in ("owner", "all") for what in PERMISSIONS}


@pytest.mark.parametrize("value", ["id", "id=", "id='x'", 'id="x" uri="y"', "who=x", 'id="x', ",", "id=x;uri=y", "="])
def test_grants_that_cannot_be_read(value: str) -> None:
    with pytest.raises(S3Error) as refused:
        acls.from_headers({"x-amz-grant-read": value}, OWNER.id, of_bucket=True)
    assert refused.value.code == "InvalidArgument"


def test_what_asks_for_more_than_private() -> None:
    asking = {name for name in (*CANNED, "of-the-future") if acls.is_asked({"x-amz-acl": name})}
    assert asking == {"public-read", "public-read-write", "authenticated-read", "log-delivery-write", "of-the-future"}
    assert acls.is_asked({"x-amz-grant-read": ""}) and not acls.is_asked({})

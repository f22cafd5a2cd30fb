"""Access control lists: what a bucket or an object grants beside policies. Pure.

All users of a cluster are one account, which owns everything: a grant is to that owner or to one of the groups that AWS
predefines. Lists count only where the ownership controls of the bucket let them. Kept as text, one word for each grant
("owner:FULL_CONTROL all:READ"); "" is what everything has that nobody set a list of, all rights for the owner alone.
Source: AWS, "Access control list (ACL) overview".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error

HEADER = "x-amz-acl"
READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL = "READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"
PERMISSIONS = (READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL)
GRANT_HEADERS: Mapping[str, str] = {
    "x-amz-grant-" + permission.lower().replace("_", "-"): permission for permission in PERMISSIONS
}
HEADERS = " ".join((HEADER, *GRANT_HEADERS))
OWNERSHIP_HEADER = "x-amz-object-ownership"
STORED = "acl"  # among the stored headers of an object, where no request can name it
GRANTS_MAX = 100

OWNER, ALL, AUTHENTICATED, LOG_DELIVERY = "owner", "all", "authenticated", "log-delivery"
GROUPS: Mapping[str, str] = {
    ALL: "http://acs.amazonaws.com/groups/global/AllUsers",
    AUTHENTICATED: "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
    LOG_DELIVERY: "http://acs.amazonaws.com/groups/s3/LogDelivery",
}
_BY_URI = {uri: group for group, uri in GROUPS.items()}


class Grant(NamedTuple):
    grantee: str  # OWNER, or one of GROUPS
    permission: str


Grants = tuple[Grant, ...]
PRIVATE: Grants = (Grant(OWNER, FULL_CONTROL),)
_OF_BUCKETS = {"log-delivery-write": (*PRIVATE, Grant(LOG_DELIVERY, WRITE), Grant(LOG_DELIVERY, READ_ACP))}
CANNED: Mapping[str, Grants] = {
    "private": PRIVATE,
    "public-read": (*PRIVATE, Grant(ALL, READ)),
    "public-read-write": (*PRIVATE, Grant(ALL, READ), Grant(ALL, WRITE)),
    "authenticated-read": (*PRIVATE, Grant(AUTHENTICATED, READ)),
    # those are for other accounts, and there is one
    "aws-exec-read": PRIVATE,
    "bucket-owner-read": PRIVATE,
    "bucket-owner-full-control": PRIVATE,
    **_OF_BUCKETS,
}
# What a grant allows, by the action of policies.
_ON_BUCKET = {
    "s3:ListBucket": READ,
    "s3:ListBucketVersions": READ,
    "s3:ListBucketMultipartUploads": READ,
    "s3:PutObject": WRITE,
    "s3:GetBucketAcl": READ_ACP,
    "s3:PutBucketAcl": WRITE_ACP,
}
_ON_OBJECT = {
    "s3:GetObject": READ,
    "s3:GetObjectVersion": READ,
    "s3:GetObjectAcl": READ_ACP,
    "s3:GetObjectVersionAcl": READ_ACP,
    "s3:PutObjectAcl": WRITE_ACP,
    "s3:PutObjectVersionAcl": WRITE_ACP,
}
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*(?:"([^"]*)"|([^",]*))\s*', re.IGNORECASE)


class Right(NamedTuple):
    """What a list must grant for an action."""

    permission: str
    of_object: bool  # by the list of the object; else by that of the bucket


def right_for(action: str) -> Right | None:
    """None: no list grants it."""
    if action in _ON_BUCKET:
        return Right(_ON_BUCKET[action], False)
    return Right(_ON_OBJECT[action], True) if action in _ON_OBJECT else None


def permits(stored: str, permission: str, *, signed: bool) -> bool:
    """To anybody but the owner. `signed`: by whom the request is known."""
    groups = (ALL, AUTHENTICATED) if signed else (ALL,)
    return any(one.grantee in groups and one.permission in (permission, FULL_CONTROL) for one in read(stored))


def is_public(stored: str) -> bool:
    return any(one.grantee in (ALL, AUTHENTICATED) for one in read(stored))


def is_shared(stored: str) -> bool:
    """Whether it grants anything to others than the owner."""
    return any(one.grantee != OWNER for one in read(stored))


def read(stored: str) -> Grants:
    if not stored:
        return PRIVATE
    words = (word.partition(":") for word in stored.split())
    return tuple(Grant(grantee, permission) for grantee, _, permission in words if grantee)


def text_of(grants: Grants) -> str:
    """To be stored. A list without any grant is not that of everything: it is kept apart from ""."""
    if grants == PRIVATE:
        return ""
    return " ".join(f"{one.grantee}:{one.permission}" for one in grants) or ":"


def is_asked(headers: Mapping[str, str]) -> bool:
    """Whether a request asks for more than what everything has anyway."""
    if any(name in headers for name in GRANT_HEADERS):
        return True
    return HEADER in headers and CANNED.get(headers[HEADER]) != PRIVATE


def from_headers(headers: Mapping[str, str], owner: str, *, of_bucket: bool) -> Grants | None:
    """None: they say nothing. S3Error."""
    check_headers(headers, of_bucket=of_bucket)
    if HEADER in headers:
        return CANNED[headers[HEADER]]
    found: list[Grant] = []
    for name, permission in GRANT_HEADERS.items():
        if name in headers:
            found.extend(Grant(one, permission) for one in _grantees(name, headers[name], owner))
    _check_count(found)
    return tuple(dict.fromkeys(found)) or None


def check_headers(headers: Mapping[str, str], *, of_bucket: bool) -> None:
    """S3Error: a list that does not exist, or two ways of saying it."""
    value = headers.get(HEADER)
    if value is None:
        return
    if value not in CANNED or (value in _OF_BUCKETS and not of_bucket):
        extra = {"ArgumentName": HEADER, "ArgumentValue": value}
        raise S3Error("InvalidArgument", f"{value!r} is no canned ACL of {_what(of_bucket)}.", extra=extra)
    if any(name in headers for name in GRANT_HEADERS):
        raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")


def _what(of_bucket: bool) -> str:
    return "a bucket" if of_bucket else "an object"


def _grantees(name: str, value: str, owner: str) -> Iterable[str]:
    position = 0
    while position < len(value):
        found = _GRANTEE.match(value, position)
        if found is None or (found.end() < len(value) and value[found.end()] != ","):
            extra = {"ArgumentName": name, "ArgumentValue": value}
            raise S3Error("InvalidArgument", "Argument format not recognized", extra=extra)
        yield _grantee(found[1].lower(), found[2] if found[2] is not None else found[3].strip(), owner)
        position = found.end() + 1


def _grantee(kind: str, value: str, owner: str) -> str:
    if kind == "emailaddress":
        raise S3Error("UnresolvableGrantByEmailAddress", extra={"ArgumentName": "emailAddress", "ArgumentValue": value})
    if kind == "uri":
        if value in _BY_URI:
            return _BY_URI[value]
        raise S3Error("InvalidArgument", "Invalid group uri", extra={"ArgumentName": "uri", "ArgumentValue": value})
    if value == owner:
        return OWNER
    raise S3Error("InvalidArgument", "Invalid id", extra={"ArgumentName": "CanonicalUser/ID", "ArgumentValue": value})


def parse(body: bytes, owner: str) -> Grants:
    """An AccessControlPolicy. S3Error MalformedXML, MalformedACLError, AccessDenied (another owner), and those of
    grantees that are not known."""
    root = documents.read(body, "AccessControlPolicy", "Owner", "AccessControlList")
    named, listed = documents.child(root, "Owner"), documents.child(root, "AccessControlList")
    if listed is None:
        raise _malformed("AccessControlPolicy has no AccessControlList")
    documents.only(listed, "Grant")
    if named is not None and documents.text(named, "ID") not in (owner, None):
        raise S3Error("AccessDenied", "An ACL cannot change the owner.")
    found = [_grant(node, owner) for node in listed.all("Grant")]
    _check_count(found)
    return tuple(dict.fromkeys(found))


def _grant(node: xml.Node, owner: str) -> Grant:
    documents.only(node, "Grantee", "Permission")
    grantee, permission = documents.child(node, "Grantee"), documents.text(node, "Permission")
    if grantee is None or permission not in PERMISSIONS:
        raise _malformed(f"A Grant needs a Grantee, and a Permission out of {', '.join(PERMISSIONS)}")
    documents.only(grantee, "ID", "DisplayName", "URI", "EmailAddress")
    kinds = {"ID": "id", "URI": "uri", "EmailAddress": "emailaddress"}
    given = [(kind, documents.text(grantee, name)) for name, kind in kinds.items() if grantee.all(name)]
    if len(given) != 1:
        raise _malformed("A Grantee has one of ID, URI and EmailAddress")
    [(kind, value)] = given
    return Grant(_grantee(kind, value or "", owner), permission)


def _check_count(grants: list[Grant]) -> None:
    if len(grants) > GRANTS_MAX:
        raise _malformed(f"An ACL has at most {GRANTS_MAX} grants")


def _malformed(reason: str) -> S3Error:
    return S3Error("MalformedACLError", f"The ACL you provided was not well formed or not as expected: {reason}.")

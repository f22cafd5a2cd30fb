"""What the conditions of policies can ask of a request: its condition keys, in lower case, and their values. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

from gateway.s3 import tags
from gateway.s3.errors import S3Error
from gateway.s3.sigv4 import TOKEN, Auth
from gateway.s3.target import Query
from objstore.model.identity import ACCOUNT, Principal, Session

_OF_QUERY = ("prefix", "delimiter", "max-keys", "versionId")
_OF_HEADERS = {
    "if-match": "s3:if-match",
    "if-none-match": "s3:if-none-match",
    "referer": "aws:referer",
    "user-agent": "aws:useragent",
    "x-amz-object-lock-legal-hold": "s3:object-lock-legal-hold",
    "x-amz-object-lock-mode": "s3:object-lock-mode",
    "x-amz-object-lock-retain-until-date": "s3:object-lock-retain-until-date",
}


def request_context(
    query: Query,
    headers: Mapping[str, str],
    auth: Auth,
    principal: Principal | None,
    *,
    remote: str,
    secure: bool,
    now_ms: int,
    session: Session | None = None,
) -> dict[str, tuple[str, ...]]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    found = {
        "aws:sourceip": remote,
        "aws:securetransport": "true" if secure else "false",
        "aws:currenttime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(now_ms // 1000),
        **_who(auth, principal, now),
    }
    if session is not None:
        issued = datetime.fromtimestamp(session.issued_s, UTC)
        found |= {"aws:tokenissuetime": issued.strftime("%Y-%m-%dT%H:%M:%SZ"), "aws:multifactorauthpresent": "false"}
    for name in _OF_QUERY:
        if (value := query.get(name)) is not None:
            found["s3:" + name.lower()] = value
    for name, value in headers.items():
        if name in _OF_HEADERS:
            found[_OF_HEADERS[name]] = value
        elif name == "x-amz-copy-source":
            found["s3:x-amz-copy-source"] = value.removeprefix("/")
        elif name.startswith("x-amz-") and name != TOKEN:
            found["s3:" + name] = value
    context: dict[str, tuple[str, ...]] = {name: (value,) for name, value in found.items() if value != ""}
    for name in ("s3:prefix", "s3:delimiter"):
        if found.get(name) == "":
            context[name] = ("",)  # said, unlike one that is missing
    if "x-amz-tagging" in headers:
        with contextlib.suppress(S3Error):  # the handler refuses it
            context.update(tag_context(tags.from_header(headers)))
    return context


def _who(auth: Auth, principal: Principal | None, now: datetime) -> dict[str, str]:
    if principal is None:
        return {"aws:principaltype": "Anonymous", "aws:userid": "anonymous"}
    found = {
        "aws:principalarn": principal.issuer_arn,
        "aws:principalaccount": ACCOUNT,
        "aws:principaltype": "AssumedRole" if principal.role else "User" if principal.user else "Account",
        "aws:userid": principal.id,
        "s3:authtype": "REST-QUERY-STRING" if auth.presigned else "REST-HEADER",
        "s3:signatureversion": "AWS4-HMAC-SHA256" if auth.scope else "AWS",
    }
    if principal.user:
        found["aws:username"] = principal.user
    if auth.presigned and auth.date:  # the older signature does not say when it was made
        signed = datetime.strptime(auth.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        found["s3:signatureage"] = str(max(0, round((now - signed).total_seconds() * 1000)))
    return found


def tag_context(given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Of tags that a request wants to give."""
    found = tag_values("s3:requestobjecttag/", given)
    return {**found, "s3:requestobjecttagkeys": tuple(given)} if given else found


def tag_values(prefix: str, tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The names of condition keys have no case, those of tags do: tags that differ in nothing else all count, so that
    none can hide another from a Deny."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in tags.items():
        key = prefix + name.lower()
        found[key] = (*found.get(key, ()), value)
    return found

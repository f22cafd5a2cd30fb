"""CORS: the rules of a bucket as a document, and what they say of a request of a web page. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from objstore.model.cors import BucketCors, CorsRule

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
RULES_MAX = 100
DOCUMENT_BYTES_MAX = 64 * 1024
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

ORIGIN = "origin"
_METHOD = "access-control-request-method"
_HEADERS = "access-control-request-headers"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token, RFC 9110 section 5.6.2: it goes into answers


# --- documents


def parse(body: bytes) -> BucketCors:
    """S3Error MalformedXML, InvalidRequest."""
    root = documents.read(body, "CORSConfiguration", "CORSRule", size_max=DOCUMENT_BYTES_MAX)
    nodes = root.all("CORSRule")
    if not 1 <= len(nodes) <= RULES_MAX:
        raise documents.malformed(f"CORSConfiguration has 1 to {RULES_MAX} rules")
    return BucketCors(tuple(map(_rule, nodes)))


def _rule(node: xml.Node) -> CorsRule:
    names = ("AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader")
    documents.only(node, *names, "MaxAgeSeconds", "ID")
    origins, methods, headers, exposed = (tuple(each.text.strip() for each in node.all(name)) for name in names)
    if not origins or not methods:
        raise documents.malformed("a CORSRule has an AllowedOrigin and an AllowedMethod")
    for method in methods:
        if method not in METHODS:
            text = f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            raise S3Error("InvalidRequest", text)
    for name, patterns in (("AllowedOrigin", origins), ("AllowedHeader", headers)):
        for pattern in patterns:
            if pattern.count("*") > 1:
                raise S3Error("InvalidRequest", f'{name} "{pattern}" can not have more than one wildcard.')
    for header in exposed:
        if not _HEADER_NAME.fullmatch(header):
            raise documents.malformed(f"{header} is not the name of a header")
        if "*" in header:
            text = f'ExposeHeader "{header}" contains wildcard. We currently do not support wildcard for ExposeHeader.'
            raise S3Error("InvalidRequest", text)
    id = documents.text(node, "ID") or ""
    if len(id) > 255:
        raise documents.malformed("an ID has at most 255 characters")
    return CorsRule(origins, methods, headers, exposed, _age(documents.text(node, "MaxAgeSeconds")), id)


def _age(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise documents.malformed("MaxAgeSeconds is an integer that is not negative")
    return int(value)


def document(found: BucketCors) -> bytes:
    return xml.document("CORSConfiguration", "".join(f"<CORSRule>{_shown(rule)}</CORSRule>" for rule in found.rules))


def _shown(rule: CorsRule) -> str:
    text = xml.element("ID", rule.id) if rule.id else ""
    for name, values in (
        ("AllowedHeader", rule.headers),
        ("AllowedMethod", rule.methods),
        ("AllowedOrigin", rule.origins),
        ("ExposeHeader", rule.exposed),
    ):
        text += "".join(xml.element(name, value) for value in values)
    return text + (xml.element("MaxAgeSeconds", rule.max_age_s) if rule.max_age_s is not None else "")


# --- requests


def preflight(
    found: BucketCors | None, headers: Mapping[str, str], *, of_object: bool, exists: bool = True
) -> dict[str, str]:
    """The headers that answer an OPTIONS request. S3Error InvalidRequest, AccessForbidden."""
    origin, method = headers.get(ORIGIN), headers.get(_METHOD)
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    extra = {"Method": method or "OPTIONS", "ResourceType": "OBJECT" if of_object else "BUCKET"}
    if found is None:
        text = "CORSResponse: CORS is not enabled for this bucket." if exists else "CORSResponse: Bucket not found"
        raise S3Error("AccessForbidden", text, extra=extra)
    if not method or method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    asked = _asked_headers(headers)
    rule = next((rule for rule in found.rules if _allows(rule, origin, method, asked)), None)
    if rule is None:
        text = "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, "
        text += "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted "
        raise S3Error("AccessForbidden", text + "by the resource's CORS spec.", extra=extra)
    answer = _answer(rule, origin)
    if asked:
        answer["Access-Control-Allow-Headers"] = ", ".join(asked)
    return answer


def actual(found: BucketCors | None, method: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers to add to the answer of a request that is no preflight; {} when no rule fits."""
    origin = headers.get(ORIGIN)
    if not origin or found is None:
        return {}
    asked = _asked_headers(headers)
    method = headers.get(_METHOD) or method
    rule = next((rule for rule in found.rules if _allows(rule, origin, method, asked)), None)
    return _answer(rule, origin) if rule is not None else {}


def _asked_headers(headers: Mapping[str, str]) -> list[str]:
    return [name.strip().lower() for name in headers.get(_HEADERS, "").split(",") if name.strip()]


def _allows(rule: CorsRule, origin: str, method: str, asked: list[str]) -> bool:
    return (
        method in rule.methods
        and origin.isascii()  # as every origin is; it goes into the answer
        and any(_matches(pattern, origin) for pattern in rule.origins)
        and all(_HEADER_NAME.fullmatch(name) for name in asked)
        and all(any(_matches(pattern.lower(), name) for pattern in rule.headers) for name in asked)
    )


def _matches(pattern: str, text: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return text == pattern
    return len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail)


def _answer(rule: CorsRule, origin: str) -> dict[str, str]:
    anybody = "*" in rule.origins
    answer = {"Access-Control-Allow-Origin": "*" if anybody else origin}
    answer["Access-Control-Allow-Methods"] = ", ".join(rule.methods)
    if rule.exposed:
        answer["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age_s is not None:
        answer["Access-Control-Max-Age"] = str(rule.max_age_s)
    if not anybody:
        answer["Access-Control-Allow-Credentials"] = "true"
    answer["Vary"] = VARY
    return answer

"""Access control lists of buckets and objects, where the ownership controls of the bucket let them count."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.buckets import OWNER
from gateway.handlers.call import Call
from gateway.handlers.responses import empty, xml
from gateway.s3 import acls, answers
from gateway.s3.errors import S3Error
from objstore.model import bucketconfig
from objstore.model.bucketconfig import ownership_of
from objstore.model.errors import Conflict
from objstore.model.identity import BucketAcl, PublicAccessBlock
from objstore.model.records import BucketState, ObjectVersion


class _Refused(Conflict):
    """Raised and caught here: the change function of the bucket or object decides it."""

    def __init__(self, answer: S3Error) -> None:
        super().__init__(answer.message)
        self.answer = answer


async def acl_for_write(call: Call) -> dict[str, str]:
    """What a new object keeps of the ACL that its request asks for, as a stored header. S3Error."""
    acls.check_headers(call.headers, of_bucket=False)
    if not acls.is_asked(call.headers):
        return {}
    bucket = await call.engine.get_bucket(call.bucket)
    if not ownership_of(bucket.config).has_acls:
        raise _not_supported(call)
    text = acls.text_of(acls.from_headers(call.headers, OWNER.id, of_bucket=False) or acls.PRIVATE)
    _check_block(bucket.config, text)
    return {acls.STORED: text} if text else {}


async def get_bucket_acl(call: Call) -> web.StreamResponse:
    bucket = await call.engine.get_bucket(call.bucket)
    found = bucketconfig.get(bucket.config, BucketAcl) if ownership_of(bucket.config).has_acls else None
    return xml(answers.acl(OWNER, acls.read(found.grants if found is not None else "")))


async def get_object_acl(call: Call) -> web.StreamResponse:
    info = await call.access.look_up(call.bucket, call.key, call.target.query.get("versionId"))
    bucket = await call.engine.get_bucket(call.bucket)
    stored = info.headers.get(acls.STORED, "") if ownership_of(bucket.config).has_acls else ""
    return xml(answers.acl(OWNER, acls.read(stored)))


async def put_bucket_acl(call: Call) -> web.StreamResponse:
    text = await _given(call, of_bucket=True)

    def edit(bucket: BucketState) -> BucketState:
        _check_bucket(call, bucket.config, text)
        if not ownership_of(bucket.config).has_acls:
            return bucket  # it is what everything has there
        return bucketconfig.with_(bucket, BucketAcl(text))

    try:
        await call.engine.configure_bucket(call.bucket, edit)
    except _Refused as refused:
        raise refused.answer from None
    return empty()


async def put_object_acl(call: Call) -> web.StreamResponse:
    version_id = call.target.query.get("versionId")
    text = await _given(call, of_bucket=False)
    bucket = await call.engine.get_bucket(call.bucket)
    has_acls = ownership_of(bucket.config).has_acls

    def edit(version: ObjectVersion) -> ObjectVersion:
        if not call.access.still_granted(call.bucket, call.key, version_id, version.headers.get(acls.STORED, "")):
            raise _Refused(S3Error("AccessDenied"))
        if not has_acls:
            return version
        headers = {name: value for name, value in version.headers.items() if name != acls.STORED}
        return msgspec.structs.replace(version, headers={**headers, acls.STORED: text} if text else headers)

    try:
        _check_bucket(call, bucket.config, text)
        await call.engine.amend_object(call.bucket, call.key, version_id, edit)
    except _Refused as refused:
        raise refused.answer from None
    return empty()


async def _given(call: Call, *, of_bucket: bool) -> str:
    """The list that a request sets, by its headers or its body."""
    document = await read_document(call)
    in_headers = acls.HEADER in call.headers or any(name in call.headers for name in acls.GRANT_HEADERS)
    acls.check_headers(call.headers, of_bucket=of_bucket)
    if document and in_headers:
        raise S3Error("UnexpectedContent")
    if not document and not in_headers:
        raise S3Error("MissingSecurityHeader", "The header x-amz-acl is missing, and there is no body instead.")
    try:
        if document:
            return acls.text_of(acls.parse(document, OWNER.id))
        return acls.text_of(acls.from_headers(call.headers, OWNER.id, of_bucket=of_bucket) or ())
    except S3Error as error:
        bucket = await call.engine.get_bucket(call.bucket)
        if error.code.startswith("Malformed") or ownership_of(bucket.config).has_acls:
            raise
        raise _not_supported(call) from None  # whoever it is for


def _check_bucket(call: Call, config: Mapping[str, bytes], text: str) -> None:
    """_Refused: the list cannot be set in that bucket, or on it."""
    if text and not ownership_of(config).has_acls:
        raise _Refused(_not_supported(call))
    try:
        _check_block(config, text)
    except S3Error as error:
        raise _Refused(error) from None


def _check_block(config: Mapping[str, bytes], text: str) -> None:
    block = bucketconfig.get(config, PublicAccessBlock)
    if block is not None and block.block_acls and acls.is_public(text):
        reason = "public ACLs are prevented by the BlockPublicAcls setting of the public access block of the bucket"
        raise S3Error("AccessDenied", f"This is not allowed here because {reason}.")


def _not_supported(call: Call) -> S3Error:
    named = [name for name in (acls.HEADER, *acls.GRANT_HEADERS) if name in call.headers]
    return S3Error("AccessControlListNotSupported", extra={"Header": named[0]} if named else {})

"""Operations on buckets as a whole, and the fixed answers about configuration that this store does not have."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.responses import empty, xml
from gateway.s3 import acls, answers, listing, locks
from gateway.s3.access_documents import check_rule
from gateway.s3.answers import Owner
from gateway.s3.bodies import parse_create_bucket, parse_versioning
from gateway.s3.errors import S3Error
from gateway.s3.operations import EMPTY, NOT_CONFIGURED
from objstore.model import bucketconfig
from objstore.model.errors import InvalidBucketState
from objstore.model.identity import BucketAcl, BucketOwnership
from objstore.model.locking import BucketLock, lock_of
from objstore.model.records import BucketState
from objstore.model.tagging import BucketTags

# One owner of everything: access keys share all buckets. Some clients insist on an id of 64 hex digits.
OWNER = Owner(id="0" * 63 + "1", name="objstore")


async def list_buckets(call: Call) -> web.StreamResponse:
    params = listing.buckets_params(call.target.query)
    region = call.settings.region
    found = await call.engine.list_buckets() if params.region in ("", region) else []
    page, token = listing.buckets_page(params, found)
    return xml(answers.list_buckets(page, token, params, OWNER, region))


async def create_bucket(call: Call) -> web.StreamResponse:
    wanted = parse_create_bucket(await read_document(call))
    region = call.settings.region
    if wanted.location not in ("", region):
        text = f"The location constraint {wanted.location!r} is not the region of this store, which is {region!r}."
        raise S3Error("IllegalLocationConstraintException", text)
    records: list[msgspec.Struct] = [BucketTags(dict(wanted.tags))] if wanted.tags else []
    if locks.enabled_at_creation(call.headers):
        records.append(BucketLock())
    records += _ownership(call)
    versioning = "Enabled" if locks.enabled_at_creation(call.headers) else ""
    await call.engine.create_bucket(call.bucket, versioning=versioning, config=bucketconfig.encoded(*records))
    return empty(headers={"Location": f"/{call.bucket}"})


def _ownership(call: Call) -> list[msgspec.Struct]:
    """Who asks for an ACL wants it to count, unless the same request says that none shall. S3Error."""
    rule = call.headers.get(acls.OWNERSHIP_HEADER, "")
    if rule:
        check_rule(rule)
    text = acls.text_of(acls.from_headers(call.headers, OWNER.id, of_bucket=True) or acls.PRIVATE)
    if not text:
        return [BucketOwnership(rule)] if rule else []
    rule = rule or "ObjectWriter"
    if not BucketOwnership(rule).has_acls:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    return [BucketOwnership(rule), BucketAcl(text)]


async def head_bucket(call: Call) -> web.StreamResponse:
    await call.engine.get_bucket(call.bucket)
    return empty(headers={"x-amz-bucket-region": call.settings.region, "Content-Type": "application/xml"})


async def delete_bucket(call: Call) -> web.StreamResponse:
    await call.engine.delete_bucket(call.bucket)
    return empty(204)


async def get_location(call: Call) -> web.StreamResponse:
    await call.engine.get_bucket(call.bucket)
    return xml(answers.location(call.settings.region))


async def get_versioning(call: Call) -> web.StreamResponse:
    bucket = await call.engine.get_bucket(call.bucket)
    return xml(answers.versioning(bucket.versioning))


async def put_versioning(call: Call) -> web.StreamResponse:
    status = parse_versioning(await read_document(call))

    def edit(bucket: BucketState) -> BucketState:
        if status != "Enabled" and lock_of(bucket.config) is not None:
            raise InvalidBucketState(
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
            )
        return msgspec.structs.replace(bucket, versioning=status)

    await call.engine.configure_bucket(call.bucket, edit)
    return empty()


async def not_configured(call: Call) -> web.StreamResponse:
    await _check_exists(call)
    code, message = NOT_CONFIGURED[call.operation]
    raise S3Error(code, message)


async def empty_document(call: Call) -> web.StreamResponse:
    await _check_exists(call)
    return xml(EMPTY[call.operation])


async def nothing_to_delete(call: Call) -> web.StreamResponse:
    await _check_exists(call)
    return empty(204)


async def _check_exists(call: Call) -> None:
    """The bucket, or the object if the request names one."""
    if call.target.key is None:
        await call.engine.get_bucket(call.bucket)
    else:
        await call.engine.head_object(call.bucket, call.key, call.target.query.get("versionId"))

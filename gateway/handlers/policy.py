"""What a bucket says of access to it: its policy, its public access block, its ownership controls."""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.configs import configure, configured, deconfigure
from gateway.handlers.responses import empty, xml
from gateway.s3 import acls, policies
from gateway.s3.access_documents import (
    ownership_document,
    parse_block,
    parse_ownership,
    public_access_document,
    status_document,
)
from gateway.s3.errors import S3Error
from objstore.model import bucketconfig
from objstore.model.errors import Conflict
from objstore.model.identity import BucketAcl, BucketOwnership, BucketPolicy, PublicAccessBlock
from objstore.model.records import BucketState


class _PublicPolicyBlocked(Conflict):
    """Raised and caught here: the change function of the bucket decides it."""


class _SharedByAcl(Conflict):
    """Likewise: the ACL of the bucket must be taken back before it stops to count."""


async def get_policy(call: Call) -> web.StreamResponse:
    found = await configured(call, BucketPolicy, "NoSuchBucketPolicy")
    return web.Response(body=found.document, content_type="application/json")


async def put_policy(call: Call) -> web.StreamResponse:
    raw = await read_document(call)
    is_public = policies.is_public(policies.parse(raw, call.bucket))

    def edit(bucket: BucketState) -> BucketState:
        block = bucketconfig.get(bucket.config, PublicAccessBlock)
        if is_public and block is not None and block.block_policy:
            raise _PublicPolicyBlocked
        return bucketconfig.with_(bucket, BucketPolicy(raw))

    try:
        await call.engine.configure_bucket(call.bucket, edit)
    except _PublicPolicyBlocked:
        text = "public policies are prevented by the BlockPublicPolicy setting of the public access block of the bucket"
        raise S3Error("AccessDenied", f"PutBucketPolicy is not allowed here because {text}.") from None
    return empty(204)


async def delete_policy(call: Call) -> web.StreamResponse:
    return await deconfigure(call, BucketPolicy)


async def get_status(call: Call) -> web.StreamResponse:
    found = await configured(call, BucketPolicy, "NoSuchBucketPolicy")
    return xml(status_document(policies.is_public(policies.parse(found.document, call.bucket))))


async def get_block(call: Call) -> web.StreamResponse:
    found = await configured(call, PublicAccessBlock, "NoSuchPublicAccessBlockConfiguration")
    return xml(public_access_document(found))


async def put_block(call: Call) -> web.StreamResponse:
    await configure(call, parse_block(await read_document(call)))
    return empty()


async def delete_block(call: Call) -> web.StreamResponse:
    return await deconfigure(call, PublicAccessBlock)


async def get_ownership(call: Call) -> web.StreamResponse:
    found = bucketconfig.ownership_of((await call.engine.get_bucket(call.bucket)).config)
    if not found.rule:
        raise S3Error("OwnershipControlsNotFoundError", extra={"BucketName": call.bucket})
    return xml(ownership_document(found))


async def put_ownership(call: Call) -> web.StreamResponse:
    wanted = parse_ownership(await read_document(call))

    def edit(bucket: BucketState) -> BucketState:
        acl = bucketconfig.get(bucket.config, BucketAcl)
        if acl is not None and acls.is_shared(acl.grants) and not wanted.has_acls:
            raise _SharedByAcl
        return bucketconfig.with_(bucket, wanted)

    try:
        await call.engine.configure_bucket(call.bucket, edit)
    except _SharedByAcl:
        raise S3Error("InvalidBucketAclWithObjectOwnership") from None
    return empty()


async def delete_ownership(call: Call) -> web.StreamResponse:
    await configure(call, BucketOwnership(rule=""))
    return empty(204)

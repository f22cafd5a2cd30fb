"""What a bucket says of access to it: its policy, its public access block, its ownership controls."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.responses import empty, xml
from gateway.s3 import policies
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
from objstore.model.identity import BucketOwnership, BucketPolicy, PublicAccessBlock
from objstore.model.records import BucketState


class _PublicPolicyBlocked(Conflict):
    """Raised and caught here: the change function of the bucket decides it."""


async def get_policy(call: Call) -> web.StreamResponse:
    return web.Response(body=(await _policy(call)).document, content_type="application/json")


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
    return await _delete(call, BucketPolicy)


async def get_status(call: Call) -> web.StreamResponse:
    return xml(status_document(policies.is_public(policies.parse((await _policy(call)).document, call.bucket))))


async def get_block(call: Call) -> web.StreamResponse:
    found = await _found(call, PublicAccessBlock)
    if found is None:
        raise S3Error("NoSuchPublicAccessBlockConfiguration")
    return xml(public_access_document(found))


async def put_block(call: Call) -> web.StreamResponse:
    await _put(call, parse_block(await read_document(call)))
    return empty()


async def delete_block(call: Call) -> web.StreamResponse:
    return await _delete(call, PublicAccessBlock)


async def get_ownership(call: Call) -> web.StreamResponse:
    found = await _found(call, BucketOwnership)
    if found is None:
        raise S3Error("OwnershipControlsNotFoundError")
    return xml(ownership_document(found))


async def put_ownership(call: Call) -> web.StreamResponse:
    await _put(call, parse_ownership(await read_document(call)))
    return empty()


async def delete_ownership(call: Call) -> web.StreamResponse:
    return await _delete(call, BucketOwnership)


async def _policy(call: Call) -> BucketPolicy:
    found = await _found(call, BucketPolicy)
    if found is None:
        raise S3Error("NoSuchBucketPolicy")
    return found


async def _found(call: Call, kind: type[bucketconfig.T]) -> bucketconfig.T | None:
    return bucketconfig.get((await call.engine.get_bucket(call.bucket)).config, kind)


async def _put(call: Call, record: msgspec.Struct) -> None:
    def edit(bucket: BucketState) -> BucketState:
        return bucketconfig.with_(bucket, record)

    await call.engine.configure_bucket(call.bucket, edit)


async def _delete(call: Call, kind: type[msgspec.Struct]) -> web.StreamResponse:
    def edit(bucket: BucketState) -> BucketState:
        return bucketconfig.without(bucket, kind)

    await call.engine.configure_bucket(call.bucket, edit)
    return empty(204)

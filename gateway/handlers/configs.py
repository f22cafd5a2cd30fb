"""What is configured of a bucket, as its handlers read and change it: one record of one kind each."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.handlers.call import Call
from gateway.handlers.responses import empty
from gateway.s3.errors import S3Error
from objstore.model import bucketconfig
from objstore.model.records import BucketState


async def configured(call: Call, kind: type[bucketconfig.T], missing: str) -> bucketconfig.T:
    """The record, as it is now. S3Error with the code `missing` if there is none."""
    found = bucketconfig.get((await call.engine.get_bucket(call.bucket)).config, kind)
    if found is None:
        raise S3Error(missing, extra={"BucketName": call.bucket})
    return found


async def configure(call: Call, record: msgspec.Struct) -> None:
    def edit(bucket: BucketState) -> BucketState:
        return bucketconfig.with_(bucket, record)

    await call.engine.configure_bucket(call.bucket, edit)


async def deconfigure(call: Call, kind: type[msgspec.Struct]) -> web.StreamResponse:
    def edit(bucket: BucketState) -> BucketState:
        return bucketconfig.without(bucket, kind)

    await call.engine.configure_bucket(call.bucket, edit)
    return empty(204)

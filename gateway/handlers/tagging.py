"""Tags of objects and of buckets."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.configs import configure, configured, deconfigure
from gateway.handlers.objects import version_headers
from gateway.handlers.responses import empty, xml
from gateway.s3 import tags
from gateway.s3.actions import of_object
from gateway.s3.errors import S3Error
from objstore.model import notification
from objstore.model.errors import IsDeleteMarker
from objstore.model.records import ObjectVersion
from objstore.model.tagging import BucketTags


async def get_object_tags(call: Call) -> web.StreamResponse:
    try:
        info = await call.engine.head_object(call.bucket, call.key, call.target.query.get("versionId"))
    except IsDeleteMarker as marker:
        raise _no_tags(call, marker) from None
    return xml(tags.document(info.tags), version_headers(info))


async def put_object_tags(call: Call) -> web.StreamResponse:
    wanted = tags.parse(await read_document(call), tags.OBJECT_TAGS_MAX)
    version_id = call.target.query.get("versionId")
    await call.access.check(of_object("PutObjectTagging", call.bucket, call.key, version_id), wanted)
    return empty(headers=await _amend(call, wanted, notification.TAGGED))


async def delete_object_tags(call: Call) -> web.StreamResponse:
    return empty(204, await _amend(call, {}, notification.UNTAGGED))


async def _amend(call: Call, wanted: Mapping[str, str], event: str) -> dict[str, str]:
    def edit(version: ObjectVersion) -> ObjectVersion:
        return msgspec.structs.replace(version, tags=dict(wanted))

    try:
        shown = await call.engine.amend_object(
            call.bucket, call.key, call.target.query.get("versionId"), edit, event=event
        )
    except IsDeleteMarker as marker:
        raise _no_tags(call, marker) from None
    bucket = await call.engine.get_bucket(call.bucket, fresh=False)
    return {"x-amz-version-id": shown} if bucket.versioning else {}


def _no_tags(call: Call, marker: IsDeleteMarker) -> S3Error:
    """A delete marker has none, be it named or the newest version."""
    extra = {"Method": call.request.method, "ResourceType": "DeleteMarker"}
    headers = {"x-amz-delete-marker": "true", "x-amz-version-id": marker.version_id, "Allow": "DELETE"}
    return S3Error("MethodNotAllowed", extra=extra, headers=headers)


async def get_bucket_tags(call: Call) -> web.StreamResponse:
    return xml(tags.document((await configured(call, BucketTags, "NoSuchTagSet")).tags))


async def put_bucket_tags(call: Call) -> web.StreamResponse:
    wanted = BucketTags(tags.parse(await read_document(call), tags.BUCKET_TAGS_MAX))
    if not wanted.tags:
        return await deconfigure(call, BucketTags)
    await configure(call, wanted)
    return empty(204)


async def delete_bucket_tags(call: Call) -> web.StreamResponse:
    return await deconfigure(call, BucketTags)

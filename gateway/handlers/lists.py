"""ListObjects (both versions), ListObjectVersions, ListParts, ListMultipartUploads: query -> engine page -> XML."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from gateway.handlers.buckets import OWNER
from gateway.handlers.call import Call
from gateway.handlers.encryption import check_upload_key
from gateway.handlers.lifecycle import abort_headers
from gateway.handlers.responses import xml
from gateway.s3 import answers, listing


async def list_objects(call: Call) -> web.StreamResponse:
    params = listing.objects_params(call.target.query)
    if params.limit == 0:
        await call.engine.get_bucket(call.bucket)
        page = listing.EMPTY_OBJECTS
    else:
        page = await call.engine.list_objects(
            call.bucket, prefix=params.prefix, delimiter=params.delimiter, after=params.after, limit=params.limit
        )
    return xml(answers.list_objects(call.bucket, params, page, OWNER))


async def list_versions(call: Call) -> web.StreamResponse:
    params = listing.versions_params(call.target.query)
    if params.limit == 0:
        await call.engine.get_bucket(call.bucket)
        page = listing.EMPTY_VERSIONS
    else:
        page = await call.engine.list_versions(
            call.bucket,
            prefix=params.prefix,
            delimiter=params.delimiter,
            after_key=params.after_key,
            after_version=params.after_version,
            limit=params.limit,
        )
    return xml(answers.list_versions(call.bucket, params, page, OWNER))


async def list_parts(call: Call) -> web.StreamResponse:
    params = listing.parts_params(call.target.query)
    page = await call.engine.list_parts(
        call.bucket, call.key, params.upload_id, after=params.after, limit=max(1, params.limit)
    )
    check_upload_key(call, page.sealed)
    if params.limit == 0:
        page = replace(page, parts=[], truncated=False, next_after=0)
    headers = await abort_headers(call, params.upload_id)
    return xml(answers.list_parts(call.bucket, call.key, params, page, OWNER), headers)


async def list_uploads(call: Call) -> web.StreamResponse:
    params = listing.uploads_params(call.target.query)
    if params.limit == 0:
        await call.engine.get_bucket(call.bucket)
        page = listing.EMPTY_UPLOADS
    else:
        page = await call.engine.list_uploads(
            call.bucket,
            prefix=params.prefix,
            delimiter=params.delimiter,
            after_key=params.after_key,
            after_upload=params.after_upload,
            limit=params.limit,
        )
    return xml(answers.list_uploads(call.bucket, params, page, OWNER))

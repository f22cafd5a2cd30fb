"""Lifecycle: configuration of a bucket, and the headers that say when an object or an upload goes.

Who writes or reads an object is told by the rules as they are in memory, which may be some seconds old.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.configs import configure, configured, deconfigure
from gateway.handlers.responses import empty, xml
from gateway.s3 import lifecycle
from objstore.engine.types import BucketInfo, ObjectInfo
from objstore.model import bucketconfig
from objstore.model.errors import ObjstoreError
from objstore.model.ids import uuid7_ms
from objstore.model.lifecycle import BucketLifecycle, LifecycleRule, abortion, expiry

RULES_WAIT_S = 1.0  # a write that is done is not held up, nor failed, by what is only told beside


async def get_configuration(call: Call) -> web.StreamResponse:
    found = await configured(call, BucketLifecycle, "NoSuchLifecycleConfiguration")
    return xml(lifecycle.document(found), {lifecycle.MINIMUM_HEADER: found.minimum_size})


async def put_configuration(call: Call) -> web.StreamResponse:
    record = lifecycle.parse(await read_document(call), call.headers)
    await configure(call, record)
    return empty(headers={lifecycle.MINIMUM_HEADER: record.minimum_size})


async def delete_configuration(call: Call) -> web.StreamResponse:
    return await deconfigure(call, BucketLifecycle)


async def expiration_headers(call: Call, info: ObjectInfo) -> dict[str, str]:
    """x-amz-expiration of a current version."""
    if not info.latest:
        return {}
    rules = await _rules(call)
    found = expiry(rules, info.key, info.size, info.tags, info.modified_ms, _day_ms(call)) if rules else None
    return lifecycle.expiration_header(found)


async def abort_headers(call: Call, upload_id: str) -> dict[str, str]:
    """x-amz-abort-date and x-amz-abort-rule-id of an upload that is there; its id says when it began."""
    rules = await _rules(call)
    if not rules:
        return {}
    created_ms = uuid7_ms(bytes.fromhex(upload_id))
    return lifecycle.abort_headers(abortion(rules, call.key, created_ms, _day_ms(call)))


def _day_ms(call: Call) -> int:
    return call.settings.lifecycle_day_ms


async def _rules(call: Call) -> tuple[LifecycleRule, ...]:
    bucket = call.access.bucket
    if bucket is None or bucket.name != call.bucket:
        bucket = await _bucket(call)
    found = bucketconfig.get(bucket.config, BucketLifecycle) if bucket is not None else None
    return found.rules if found is not None else ()


async def _bucket(call: Call) -> BucketInfo | None:
    try:
        async with asyncio.timeout(RULES_WAIT_S):
            return await call.engine.get_bucket(call.bucket, fresh=False)
    except (ObjstoreError, TimeoutError):
        return None

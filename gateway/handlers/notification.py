"""Get and PutBucketNotificationConfiguration. What is sent, and when, is the business of `objstore.notify`."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.configs import configure, deconfigure
from gateway.handlers.responses import empty, xml
from gateway.s3 import notification
from objstore.model import bucketconfig
from objstore.model.notification import BucketNotification
from objstore.notify.messages import test_document


async def get_configuration(call: Call) -> web.StreamResponse:
    bucket = await call.engine.get_bucket(call.bucket)
    return xml(notification.document(bucketconfig.get(bucket.config, BucketNotification) or BucketNotification()))


async def put_configuration(call: Call) -> web.StreamResponse:
    wanted = notification.parse(await read_document(call))
    await call.engine.get_bucket(call.bucket)
    if call.headers.get(notification.SKIP_HEADER, "").lower() != "true":
        await _try_targets(call, wanted)
    if wanted.rules:
        await configure(call, wanted)
    else:
        await deconfigure(call, BucketNotification)
    return empty()


async def _try_targets(call: Call, wanted: BucketNotification) -> None:
    """Each gets s3:TestEvent and must take it. S3Error InvalidArgument."""
    sender = call.settings.notify
    missing = notification.unknown_targets(wanted, sender.targets if sender is not None else ())
    if missing is not None:
        raise missing
    if sender is None:
        return
    request = call.trace.request_id
    body = test_document(call.bucket, request, sender.now_ms())
    targets = list(dict.fromkeys(rule.target for rule in wanted.rules))
    reasons = await asyncio.gather(*(sender.attempt(target, body, f"test-{request}") for target in targets))
    failed = {target: reason for target, reason in zip(targets, reasons, strict=True) if reason}
    if failed:
        raise notification.failed_targets(failed)

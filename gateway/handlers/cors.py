"""CORS: configuration of a bucket, the answer to a browser's preflight, and headers for all other answers.

The rules may be as old as the bucket is in memory, some seconds: nobody is authenticated yet, so they are cheap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.configs import configure, configured, deconfigure
from gateway.handlers.responses import empty, xml
from gateway.port import Engine
from gateway.s3 import cors
from gateway.s3.errors import S3Error
from gateway.s3.names import check_bucket_name
from gateway.s3.target import Target
from objstore.model import bucketconfig
from objstore.model.cors import BucketCors
from objstore.model.errors import NoSuchBucket, ObjstoreError

PREFLIGHT = "PreflightRequest"  # in metrics and the log
RULES_WAIT_S = 1.0  # where no quorum answers, the request itself is to say so in time


async def get_bucket_cors(call: Call) -> web.StreamResponse:
    return xml(cors.document(await configured(call, BucketCors, "NoSuchCORSConfiguration")))


async def put_bucket_cors(call: Call) -> web.StreamResponse:
    await configure(call, cors.parse(await read_document(call)))
    return empty()


async def delete_bucket_cors(call: Call) -> web.StreamResponse:
    return await deconfigure(call, BucketCors)


async def preflight(engine: Engine, target: Target, headers: Mapping[str, str]) -> web.StreamResponse:
    """OPTIONS: no signature, because browsers send none. S3Error."""
    found, exists = None, target.bucket is not None
    if target.bucket is not None:
        check_bucket_name(target.bucket)
        try:
            found = await _rules(engine, target.bucket)
        except NoSuchBucket:
            exists = False
    return empty(headers=cors.preflight(found, headers, of_object=target.key is not None, exists=exists))


async def headers_for(engine: Engine, target: Target, method: str, headers: Mapping[str, str]) -> dict[str, str]:
    """To be added to the answer, be it an error. Never raises: without them only a browser minds."""
    if cors.ORIGIN not in headers or target.bucket is None:
        return {}
    try:
        check_bucket_name(target.bucket)
        async with asyncio.timeout(RULES_WAIT_S):
            return cors.actual(await _rules(engine, target.bucket), method, headers)
    except (S3Error, ObjstoreError, TimeoutError):
        return {}


async def _rules(engine: Engine, bucket: str) -> BucketCors | None:
    return bucketconfig.get((await engine.get_bucket(bucket, fresh=False)).config, BucketCors)

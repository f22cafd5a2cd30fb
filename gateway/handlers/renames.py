"""RenameObject: another key in the same bucket, and no byte is moved."""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.call import Call
from gateway.handlers.responses import empty
from gateway.s3.conditions import check_source, write_condition
from gateway.s3.errors import S3Error
from gateway.s3.rename import SOURCE, client_token, rename_source
from objstore.engine.types import ALWAYS, WriteCondition
from objstore.model.errors import NoSuchKey


async def rename_object(call: Call) -> web.StreamResponse:
    source = rename_source(call.headers, call.bucket)
    if source == call.key:
        raise S3Error("InvalidRequest", "The source and the destination of a rename are the same key.")
    await call.engine.rename_object(
        call.bucket,
        source,
        call.key,
        condition=write_condition(call.headers),
        source_condition=await _source_condition(call, source),
        token=client_token(call.headers),
    )
    return empty()


async def _source_condition(call: Call, source: str) -> WriteCondition:
    """What was looked at when the conditions were judged is what is renamed."""
    if not any(name.startswith(f"{SOURCE}-if-") for name in call.headers):
        return ALWAYS
    try:
        info = await call.engine.head_object(call.bucket, source)
    except NoSuchKey:
        return ALWAYS  # the engine knows whether this request was done before
    check_source(call.headers, f"{SOURCE}-if-", info.etag, info.modified_ms)
    return WriteCondition(if_match=info.etag)

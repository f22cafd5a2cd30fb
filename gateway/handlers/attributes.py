"""GetObjectAttributes."""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.call import Call
from gateway.handlers.encryption import sealing_of, shown
from gateway.handlers.objects import version_headers
from gateway.handlers.responses import xml
from gateway.s3 import answers, attributes


async def get_attributes(call: Call) -> web.StreamResponse:
    wanted = attributes.wanted(call.headers)
    info = await call.engine.head_object(call.bucket, call.key, call.target.query.get("versionId"))
    sealing = sealing_of(call, info)
    headers = {"Last-Modified": answers.http_date(info.modified_ms), **version_headers(info), **shown(call, sealing)}
    return xml(attributes.document(info, wanted), headers)

"""PostObject: an object from the form of a browser. What a PUT says in headers stands in its fields.

A form does not say how long its file is. A small body is read whole; of a larger one the file must be what the form
ends with, so that its length follows from that of the body, and what turns out to be wrong is refused before anything
is committed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from aiohttp import web

from gateway.handlers.access import Access
from gateway.handlers.acls import acl_for_write
from gateway.handlers.bodies import received
from gateway.handlers.buckets import OWNER
from gateway.handlers.call import Call
from gateway.handlers.callers import NOBODY, secret_of
from gateway.handlers.encryption import sealing_for_write, shown
from gateway.handlers.lifecycle import expiration_headers
from gateway.handlers.locks import lock_for_write
from gateway.handlers.objects import version_headers, written_headers
from gateway.handlers.responses import empty, xml
from gateway.s3 import post_policy, tags
from gateway.s3.answers import post_response
from gateway.s3.conditions import write_condition
from gateway.s3.errors import S3Error
from gateway.s3.metadata import stored_headers
from gateway.s3.operations import Operation
from gateway.s3.owners import check_expected_owner
from gateway.s3.payload import Payload
from gateway.s3.post_form import FormReader, boundary_of
from gateway.s3.router import route
from gateway.s3.sigv4 import Auth, SigningKeys, anonymous
from gateway.s3.target import Query, percent_encode
from objstore.engine.types import ObjectInfo
from objstore.model import notification
from objstore.model.limits import MIB
from objstore.ports import Buffer

HELD_BYTES_MAX = 1 * MIB  # of a file whose length is not known before it has ended
_TAGS_MAX = 10
_OF_URLS = ":/?#[]@!$&'()*+,;=%"


async def post_object(call: Call) -> web.StreamResponse:
    if "authorization" in call.headers or call.auth.access_key:
        raise S3Error("InvalidArgument", "Only one auth mechanism allowed: a form is signed by its fields.")
    form = _Form(call)
    await form.read_fields()
    fields = form.reader.fields
    fields["key"] = _key(fields, form.reader.filename)
    claim = post_policy.read_claim(fields)
    policy = None
    auth, caller = anonymous({}), NOBODY
    if claim is not None:
        now = call.settings.clock.wall_ms() / 1000
        secret, caller = await secret_of(
            claim.access_key, claim.token, call.settings.keys, call.settings.identities, now
        )
        auth = post_policy.check_claim(claim, secret, SigningKeys(1))
        call.trace.access_key = auth.access_key
        policy = post_policy.parse(claim.policy)
        post_policy.check(policy, call.bucket, fields, now)
    put = _as_put(call, form, auth)
    now_ms = call.settings.clock.wall_ms()
    access = Access(call.engine, call.request, put.target, put.headers, auth, caller, now_ms)
    await access.check_operation(Operation.PUT_OBJECT)
    await form.measure()
    if policy is not None:
        post_policy.check_size(policy, form.size)
    return await _store(dataclasses.replace(put, access=access), form)


def _key(fields: dict[str, str], filename: str) -> str:
    if not (key := fields.get("key")):
        raise post_policy.missing("key")
    return key.replace("${filename}", filename)


def _as_put(call: Call, form: _Form, auth: Auth) -> Call:
    """The same as a PutObject. S3Error: a field that a PUT would not take as a header."""
    fields = form.reader.fields
    headers = post_policy.as_headers(fields, form.reader.file_type)
    if "tagging" in fields:
        given = tags.parse(fields["tagging"].encode(), _TAGS_MAX)
        pairs = (f"{percent_encode(name)}={percent_encode(value)}" for name, value in given.items())
        headers["x-amz-tagging"] = "&".join(pairs)
    if "host" in call.headers:
        headers["host"] = call.headers["host"]
    target = call.target._replace(key=fields["key"], query=Query())
    check_expected_owner(headers, OWNER.id)
    operation = route("PUT", call.bucket, target.key, target.query, headers)
    if operation is not Operation.PUT_OBJECT:
        raise S3Error("InvalidArgument", f"A form can only put an object, not do {operation.value}.")
    return dataclasses.replace(call, target=target, headers=headers, auth=auth, operation=Operation.POST_OBJECT)


async def _store(call: Call, form: _Form) -> web.StreamResponse:
    payload = Payload(
        {**call.headers, "content-length": str(form.size)},
        call.auth,
        default_algorithm=call.settings.default_checksum,
    )
    sealing = await sealing_for_write(call)
    info = await call.engine.put_object(
        call.bucket,
        call.key,
        form.file(payload),
        form.size,
        stored_headers(call.headers) | await acl_for_write(call),
        condition=write_condition(call.headers),
        content_md5=payload.content_md5,
        finish=payload.finish,
        tags=tags.from_header(call.headers),
        lock=await lock_for_write(call),
        sealing=sealing,
        event=notification.POST,
    )
    headers = {**written_headers(info.etag, info.headers), **version_headers(info), **shown(call, sealing)}
    headers |= await expiration_headers(call, info)
    return _answer(call, form.reader.fields, info, headers)


def _answer(call: Call, fields: dict[str, str], info: ObjectInfo, headers: dict[str, str]) -> web.StreamResponse:
    where = fields.get("success_action_redirect") or fields.get("redirect", "")
    if urlsplit(where).scheme in ("http", "https") and "\n" not in where and "\r" not in where:
        etag = percent_encode(f'"{info.etag}"')
        more = f"bucket={percent_encode(call.bucket)}&key={percent_encode(call.key)}&etag={etag}"
        where = percent_encode(where, keep=_OF_URLS)
        return empty(303, {**headers, "Location": where + ("&" if "?" in where else "?") + more})
    scheme = "https" if call.request.secure else "http"
    path = percent_encode(call.key, keep="/")
    host = call.headers.get("host", "")
    headers["Location"] = f"{scheme}://{host}/" + (path if call.target.virtual_host else f"{call.bucket}/{path}")
    status = fields.get("success_action_status", "")
    if status == "201":
        response = xml(post_response(headers["Location"], call.bucket, call.key, info.etag), headers)
        response.set_status(201)
        return response
    return empty(200 if status == "200" else 204, headers)


class _Form:
    """The body of the request: its fields, then its file."""

    def __init__(self, call: Call) -> None:
        self.reader = FormReader(boundary_of(call.headers.get("content-type", "")))
        self.size = 0  # of the file, once it is measured
        self._length = call.request.content_length
        self._received = received(call)
        self._held = bytearray()

    async def read_fields(self) -> None:
        """Until the file begins. S3Error."""
        while not self.reader.has_file:
            data = await anext(self._received, b"")
            if not data:
                self.reader.finish()
            self._held += self.reader.feed(data)

    async def measure(self) -> None:
        """Find out how long the file is. S3Error."""
        tail = b"\r\n--" + self.reader.boundary + b"--\r\n"
        rest = self._length - self.reader.begins_at if self._length is not None else None
        while not self.reader.file_ended and (rest is None or rest <= HELD_BYTES_MAX):
            data = await anext(self._received, b"")
            if not data:
                self.reader.finish()
            self._held += self.reader.feed(data)
            if len(self._held) > HELD_BYTES_MAX:
                raise S3Error("MissingContentLength")
        self.size = len(self._held) if self.reader.file_ended or rest is None else rest - len(tail)

    async def file(self, payload: Payload) -> AsyncIterator[Buffer]:
        """Its bytes. S3Error when there are more or less than was measured."""
        taken = 0
        pieces, self._held = bytes(self._held), bytearray()
        while pieces or not self.reader.file_ended:
            taken += len(pieces)
            if taken > self.size:
                raise _not_last()
            if pieces:
                for piece in payload.feed(pieces):
                    yield piece
            if self.reader.file_ended:
                break
            data = await anext(self._received, b"")
            if not data:
                self.reader.finish()
            pieces = self.reader.feed(data)
        if taken != self.size:
            raise _not_last()


def _not_last() -> S3Error:
    text = (
        f"The file of a form of more than {HELD_BYTES_MAX} bytes must be its last field, and the body must end with "
        "the delimiter and a line end behind it: its length is taken from that of the body."
    )
    return S3Error("MalformedPOSTRequest", text)

"""Multipart uploads: create, upload a part, complete, abort. (Lists are in `lists`, UploadPartCopy in `copies`.)"""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.acls import acl_for_write
from gateway.handlers.bodies import read_document, upload
from gateway.handlers.call import Call
from gateway.handlers.encryption import check_upload_key, sealing_for_write, shown, unseal_for
from gateway.handlers.lifecycle import abort_headers, expiration_headers
from gateway.handlers.locks import lock_for_write
from gateway.handlers.objects import version_headers, written_headers
from gateway.handlers.responses import Document, answer_in_time, empty, xml
from gateway.s3 import answers, checksums, tags
from gateway.s3.attributes import part_digests
from gateway.s3.bodies import CompletePart, parse_complete
from gateway.s3.conditions import write_condition
from gateway.s3.errors import S3Error
from gateway.s3.listing import part_number
from gateway.s3.metadata import checksum_headers, stored_headers
from gateway.s3.payload import Payload
from objstore.engine.types import PartInfo
from objstore.model.errors import NoSuchUpload
from objstore.model.sealed import BY_CLUSTER


def _upload_id(call: Call) -> str:
    return call.target.query.get("uploadId") or ""


async def create_upload(call: Call) -> web.StreamResponse:
    checksum = checksums.requested_multipart(call.headers)
    sealing = await sealing_for_write(call)
    upload_id = await call.engine.create_upload(
        call.bucket,
        call.key,
        {**stored_headers(call.headers), **checksum, **await acl_for_write(call)},
        tags=tags.from_header(call.headers),
        lock=await lock_for_write(call),
        sealed=sealing.record if sealing is not None else None,
    )
    headers = {**checksum, **shown(call, sealing), **await abort_headers(call, upload_id)}
    return xml(answers.create_multipart_upload(call.bucket, call.key, upload_id), headers)


async def upload_part(call: Call) -> web.StreamResponse:
    number = part_number(call.target.query)
    payload = Payload(call.headers, call.auth, default_algorithm=call.settings.default_checksum)
    unseal = unseal_for(call)
    part = await call.engine.put_part(
        call.bucket,
        call.key,
        _upload_id(call),
        number,
        upload(call, payload),
        payload.length,
        content_md5=payload.content_md5,
        finish=payload.finish,
        unseal=unseal,
        admit=lambda upload_headers: checksums.check_algorithm(upload_headers, payload.algorithm),
    )
    return empty(headers={**written_headers(part.etag, part.headers), **shown(call, part.sealed)})


async def complete_upload(call: Call) -> web.StreamResponse:
    condition = write_condition(call.headers)
    chosen = parse_complete(await read_document(call, has_checksum=False))  # it is of the object
    location = f"{call.request.scheme}://{call.headers.get('host', '')}{call.target.path}"

    async def work() -> Document:
        headers, digests = await _object_checksum(call, chosen)
        info = await call.engine.complete_upload(
            call.bucket,
            call.key,
            _upload_id(call),
            [(part.number, part.etag) for part in chosen],
            condition=condition,
            headers=headers,
            part_checksums=digests,
        )
        checksum = checksum_headers(info.headers)
        body = answers.complete_multipart_upload(location, call.bucket, call.key, info.etag, checksum)
        encrypted = shown(call, info.sealed) if info.sealed is not None and info.sealed.kind == BY_CLUSTER else {}
        return Document(body, {**version_headers(info), **encrypted, **await expiration_headers(call, info)})

    return await answer_in_time(call, work())


async def abort_upload(call: Call) -> web.StreamResponse:
    await call.engine.abort_upload(call.bucket, call.key, _upload_id(call))
    return empty(204)


async def _object_checksum(call: Call, chosen: tuple[CompletePart, ...]) -> tuple[dict[str, str], bytes]:
    """The checksum of the whole from those of its parts, and these, after comparing what the client says about either.

    An upload that is not open has none to compute: the engine knows whether this is a repeat of its completion.
    """
    try:
        upload_headers, stored = await _stored_parts(call)
    except NoSuchUpload:
        return {}, b""
    parts: list[PartInfo] = []
    for part in chosen:
        found = stored.get(part.number)
        if found is None or found.etag != part.etag:
            return {}, b""  # the engine refuses it, with its reason
        for algorithm, value in part.checksums.items():
            if found.headers.get(checksums.header_name(algorithm)) != value:
                raise S3Error("InvalidPart", f"Part {part.number} does not have the {algorithm} checksum given for it.")
        checksums.check_part(upload_headers, part.number, found.headers)
        parts.append(found)
    size = sum(part.size for part in parts)
    if call.headers.get("x-amz-mp-object-size", str(size)) != str(size):
        raise S3Error("InvalidRequest", f"The parts have {size} bytes, not what x-amz-mp-object-size says.")
    whole = checksums.combined(upload_headers, [(part.headers, part.size) for part in parts])
    checksums.check_complete(upload_headers, call.headers, whole)
    return whole, part_digests(whole, [part.headers for part in parts])


async def _stored_parts(call: Call) -> tuple[dict[str, str], dict[int, PartInfo]]:
    """Headers of the upload, and its parts by number."""
    stored: dict[int, PartInfo] = {}
    after = 0
    while True:
        page = await call.engine.list_parts(call.bucket, call.key, _upload_id(call), after=after)
        check_upload_key(call, page.sealed)
        stored.update((part.number, part) for part in page.parts)
        if not page.truncated:
            return page.headers, stored
        after = page.next_after

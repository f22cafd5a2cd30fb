"""Response bodies: one function per document, values in, bytes out.

Element names and their order are those of the Amazon S3 API reference. In lists every name is written as it is, or
URL-encoded when the client asks for it, or when a name has a character that XML cannot carry: the answer then says
EncodingType=url, so a client that looks can tell. Times are shown in whole seconds, like Last-Modified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from gateway.s3.acls import GROUPS, PRIVATE, Grants
from gateway.s3.checksums import ALGORITHMS, TYPE_HEADER, header_name
from gateway.s3.listing import (
    BucketsParams,
    ObjectsParams,
    PartsParams,
    UploadsParams,
    VersionsParams,
    encode_token,
)
from gateway.s3.target import percent_encode
from gateway.s3.xml import DECLARATION, document, element, escape, escape_all, representable
from objstore.engine.types import BucketInfo, ObjectPage, PartPage, UploadPage, VersionEntry, VersionPage

XML_DECLARATION = DECLARATION
_STORAGE_CLASS = "<StorageClass>STANDARD</StorageClass>"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


class Owner(NamedTuple):
    id: str
    name: str


class Deleted(NamedTuple):
    """version_id: as asked. marker_id: of the delete marker that was made, or that was itself deleted; else None."""

    key: str
    version_id: str | None = None
    marker_id: str | None = None


class DeleteFailure(NamedTuple):
    key: str
    code: str
    message: str
    version_id: str | None = None


def http_date(ms: int) -> str:
    """For the header Last-Modified: Fri, 24 May 2013 00:00:00 GMT."""
    return _http_date(ms // 1000)


@lru_cache(4096)
def _http_date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def iso_date(ms: int) -> str:
    """2013-05-24T00:00:00.000Z."""
    return _iso_second(ms // 1000)


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19] + ".000Z"


def list_buckets(buckets: Sequence[BucketInfo], token: str, params: BucketsParams, owner: Owner, region: str) -> bytes:
    entries = "".join(
        "<Bucket>"
        + element("Name", bucket.name)
        + element("CreationDate", iso_date(bucket.created_ms))
        + element("BucketRegion", region)
        + "</Bucket>"
        for bucket in buckets
    )
    content = f"{_owner(owner)}<Buckets>{entries}</Buckets>"
    if token:
        content += element("ContinuationToken", token)
    if params.prefix:
        content += element("Prefix", params.prefix)
    return document("ListAllMyBucketsResult", content)


def location(region: str) -> bytes:
    """us-east-1 is shown empty, as in AWS."""
    return document("LocationConstraint", "" if region == "us-east-1" else escape(region))


def versioning(status: str) -> bytes:
    """Never configured: no Status at all."""
    return document("VersioningConfiguration", element("Status", status) if status else "")


def acl(owner: Owner, grants: Grants = PRIVATE) -> bytes:
    listed = "".join(f"<Grant>{_grantee(owner, who)}{element('Permission', what)}</Grant>" for who, what in grants)
    return document("AccessControlPolicy", f"{_owner(owner)}<AccessControlList>{listed}</AccessControlList>")


def _grantee(owner: Owner, who: str) -> str:
    kind, inner = ("Group", element("URI", GROUPS[who])) if who in GROUPS else ("CanonicalUser", _identity(owner))
    return f'<Grantee xmlns:xsi="{_XSI}" xsi:type="{kind}">{inner}</Grantee>'


def list_objects(bucket: str, params: ObjectsParams, page: ObjectPage, owner: Owner) -> bytes:
    """Both versions."""
    shown = (params.prefix, params.delimiter, params.marker, params.start_after, page.next_after)
    names, url = _name_writer(params.url_encoding, shown, (entry.key for entry in page.entries), page.prefixes)
    head = element("Name", bucket) + names("Prefix", params.prefix)
    if params.version == 1:
        head += names("Marker", params.marker)
        if page.truncated and params.delimiter:  # without a delimiter clients go on from the last key
            head += names("NextMarker", page.next_after)
    else:
        head += _continuation(params, page, names)
    head += element("MaxKeys", params.limit)
    if params.delimiter:
        head += names("Delimiter", params.delimiter)
    head += _encoding(url) + element("IsTruncated", page.truncated)
    with_owner = _owner(owner) if params.version == 1 or params.fetch_owner else ""
    tail = with_owner + _STORAGE_CLASS + "</Contents>"
    keys = [entry.key for entry in page.entries]
    keys = [_in_url(key) for key in keys] if url else escape_all(keys)
    etags = escape_all([entry.etag for entry in page.entries])
    contents = [  # one string per entry and nothing called that can be remembered: there are a thousand of them
        f"<Contents><Key>{key}</Key><LastModified>{_iso_second(entry.modified_ms // 1000)}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag>{_checksum_kind(entry.extra)}<Size>{entry.size}</Size>{tail}"
        for key, etag, entry in zip(keys, etags, page.entries, strict=True)
    ]
    return document("ListBucketResult", head + "".join(contents) + _prefixes(names, page.prefixes))


def list_versions(bucket: str, params: VersionsParams, page: VersionPage, owner: Owner) -> bytes:
    shown = (params.prefix, params.delimiter, params.after_key, page.next_key)
    names, url = _name_writer(params.url_encoding, shown, (entry.key for entry in page.entries), page.prefixes)
    head = element("Name", bucket) + names("Prefix", params.prefix)
    head += names("KeyMarker", params.after_key) + element("VersionIdMarker", params.after_version)
    if page.truncated:
        head += names("NextKeyMarker", page.next_key)
        if page.next_version:
            head += element("NextVersionIdMarker", page.next_version)
    head += element("MaxKeys", params.limit)
    if params.delimiter:
        head += names("Delimiter", params.delimiter)
    head += _encoding(url) + element("IsTruncated", page.truncated)
    entries = "".join(_version(entry, names, owner) for entry in page.entries)
    return document("ListVersionsResult", head + entries + _prefixes(names, page.prefixes))


def _version(entry: VersionEntry, names: Callable[[str, str], str], owner: Owner) -> str:
    text = names("Key", entry.key) + element("VersionId", entry.version_id) + element("IsLatest", entry.latest)
    text += element("LastModified", iso_date(entry.modified_ms))
    if entry.marker:
        return f"<DeleteMarker>{text}{_owner(owner)}</DeleteMarker>"
    text += element("ETag", f'"{entry.etag}"') + _checksum_kind(entry.extra) + element("Size", entry.size)
    return f"<Version>{text}{_owner(owner)}{_STORAGE_CLASS}</Version>"


@lru_cache(maxsize=64)
def _checksum_kind(extra: str) -> str:
    """Of "CRC64NVME FULL_OBJECT", as a list keeps it."""
    algorithm, _, kind = extra.partition(" ")
    text = element("ChecksumAlgorithm", algorithm) if algorithm else ""
    return text + (element("ChecksumType", kind) if kind else "")


def _continuation(params: ObjectsParams, page: ObjectPage, names: Callable[[str, str], str]) -> str:
    text = element("KeyCount", len(page.entries) + len(page.prefixes))
    if params.token is not None:
        text += element("ContinuationToken", params.token)
    if page.truncated:
        text += element("NextContinuationToken", encode_token(page.next_after))
    if params.start_after:
        text += names("StartAfter", params.start_after)
    return text


def list_parts(bucket: str, key: str, params: PartsParams, page: PartPage, owner: Owner) -> bytes:
    names, url = _name_writer(params.url_encoding, (key,))
    head = element("Bucket", bucket) + names("Key", key) + element("UploadId", params.upload_id)
    head += _owner(owner, "Initiator") + _owner(owner) + _STORAGE_CLASS
    head += element("PartNumberMarker", params.after)
    if page.truncated:
        head += element("NextPartNumberMarker", page.next_after)
    head += element("MaxParts", params.limit) + _encoding(url) + element("IsTruncated", page.truncated)
    for name, header in (("ChecksumAlgorithm", "x-amz-checksum-algorithm"), ("ChecksumType", TYPE_HEADER)):
        if header in page.headers:
            head += element(name, page.headers[header])
    parts = [
        "<Part>"
        + element("PartNumber", part.number)
        + element("LastModified", iso_date(part.modified_ms))
        + element("ETag", f'"{part.etag}"')
        + element("Size", part.size)
        + _checksums(part.headers, with_type=False)
        + "</Part>"
        for part in page.parts
    ]
    return document("ListPartsResult", head + "".join(parts))


def list_uploads(bucket: str, params: UploadsParams, page: UploadPage, owner: Owner) -> bytes:
    shown = (params.prefix, params.delimiter, params.after_key, page.next_key)
    names, url = _name_writer(params.url_encoding, shown, (upload.key for upload in page.uploads), page.prefixes)
    head = element("Bucket", bucket) + names("KeyMarker", params.after_key)
    head += element("UploadIdMarker", params.after_upload)
    if page.truncated:
        head += names("NextKeyMarker", page.next_key) + element("NextUploadIdMarker", page.next_upload)
    if params.delimiter:
        head += names("Delimiter", params.delimiter)
    head += names("Prefix", params.prefix) + _encoding(url)
    head += element("MaxUploads", params.limit) + element("IsTruncated", page.truncated)
    uploads = [
        "<Upload>"
        + names("Key", upload.key)
        + element("UploadId", upload.upload_id)
        + _owner(owner, "Initiator")
        + _owner(owner)
        + _STORAGE_CLASS
        + element("Initiated", iso_date(upload.created_ms))
        + "</Upload>"
        for upload in page.uploads
    ]
    return document("ListMultipartUploadsResult", head + "".join(uploads) + _prefixes(names, page.prefixes))


def create_multipart_upload(bucket: str, key: str, upload_id: str) -> bytes:
    content = element("Bucket", bucket) + element("Key", key) + element("UploadId", upload_id)
    return document("InitiateMultipartUploadResult", content)


def complete_multipart_upload(
    location: str, bucket: str, key: str, etag: str, checksums: Mapping[str, str], *, declaration: bool = True
) -> bytes:
    """checksums: x-amz-checksum-* headers of the object. declaration False: it was already sent, before white space."""
    content = element("Location", location) + element("Bucket", bucket) + element("Key", key)
    content += element("ETag", f'"{etag}"') + _checksums(checksums)
    whole = document("CompleteMultipartUploadResult", content)
    return whole if declaration else whole.removeprefix(DECLARATION)


def post_response(location: str, bucket: str, key: str, etag: str) -> bytes:
    """Of a browser upload that wants to know what it has made."""
    content = element("Location", location) + element("Bucket", bucket) + element("Key", key)
    return document("PostResponse", content + element("ETag", f'"{etag}"'), namespace=False)


def copy_object(etag: str, modified_ms: int, checksums: Mapping[str, str]) -> bytes:
    return document("CopyObjectResult", _copied(etag, modified_ms) + _checksums(checksums))


def copy_part(etag: str, modified_ms: int, checksums: Mapping[str, str]) -> bytes:
    return document("CopyPartResult", _copied(etag, modified_ms) + _checksums(checksums, with_type=False))


def _copied(etag: str, modified_ms: int) -> str:
    return element("ETag", f'"{etag}"') + element("LastModified", iso_date(modified_ms))


def delete_result(results: Sequence[Deleted | DeleteFailure], quiet: bool) -> bytes:
    """quiet: only the failures."""
    content = ""
    for result in results:
        version = element("VersionId", result.version_id) if result.version_id else ""
        if isinstance(result, DeleteFailure):
            failure = element("Code", result.code) + element("Message", result.message)
            content += f"<Error>{element('Key', result.key)}{version}{failure}</Error>"
        elif not quiet:
            if result.marker_id is not None:
                version += element("DeleteMarker", True) + element("DeleteMarkerVersionId", result.marker_id)
            content += f"<Deleted>{element('Key', result.key)}{version}</Deleted>"
    return document("DeleteResult", content)


def _name_writer(asked: bool, *groups: Iterable[str]) -> tuple[Callable[[str, str], str], bool]:
    """(how to write an element that holds a key or a part of one, whether that is URL-encoded)."""
    url = asked or not representable("".join(chain.from_iterable(groups)))
    if url:
        return lambda name, value: f"<{name}>{_in_url(value)}</{name}>", True
    return element, False


def _in_url(name: str) -> str:
    return percent_encode(name, keep="/")


def _encoding(url: bool) -> str:
    return "<EncodingType>url</EncodingType>" if url else ""


def _prefixes(names: Callable[[str, str], str], prefixes: Iterable[str]) -> str:
    return "".join(f"<CommonPrefixes>{names('Prefix', prefix)}</CommonPrefixes>" for prefix in prefixes)


def _identity(owner: Owner) -> str:
    return element("ID", owner.id) + element("DisplayName", owner.name)


def _owner(owner: Owner, name: str = "Owner") -> str:
    return f"<{name}>{_identity(owner)}</{name}>"


def _checksums(headers: Mapping[str, str], *, with_type: bool = True) -> str:
    """ChecksumCRC32 and so on of x-amz-checksum-crc32."""
    text = "".join(
        element("Checksum" + algorithm.upper(), headers[header_name(algorithm)])
        for algorithm in ALGORITHMS
        if header_name(algorithm) in headers
    )
    if text and with_type and TYPE_HEADER in headers:
        text += element("ChecksumType", headers[TYPE_HEADER])
    return text

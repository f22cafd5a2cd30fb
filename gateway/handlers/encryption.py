"""Encryption at rest: which key a request means, the data key under it, and the configuration of buckets.

What a handler does: `sealing_for_write` before it stores, `sealing_of` before it reads, `shown` for its answer.
"""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.configs import configure, configured, deconfigure
from gateway.handlers.responses import empty, xml
from gateway.s3 import encryption
from gateway.s3.encryption import CustomerKey
from gateway.s3.errors import S3Error
from objstore.engine.sealing import Sealing, Unseal, new_sealing, open_sealing
from objstore.engine.types import ObjectInfo
from objstore.model import bucketconfig
from objstore.model.encryption import BucketEncryption
from objstore.model.sealed import BY_CLIENT, BY_CLUSTER, KeyRing, Sealed


async def sealing_for_write(call: Call) -> Sealing | None:
    """For a new object: as the request says, else as its bucket does."""
    wanted = encryption.wanted(call.headers)
    random = call.settings.random
    bucket = await call.engine.get_bucket(call.bucket, fresh=False)
    default = bucketconfig.get(bucket.config, BucketEncryption)
    if wanted.customer is not None:
        if default is not None and not default.client_keys:
            raise S3Error("AccessDenied", "The bucket refuses server-side encryption with customer-provided keys.")
        return new_sealing(BY_CLIENT, "", wanted.customer.key, call.bucket, random)
    if not wanted.cluster and (default is None or not default.algorithm):
        return None
    ring = _ring(call)
    return new_sealing(BY_CLUSTER, ring.current, ring.keys[ring.current], call.bucket, random)


def sealing_of(call: Call, info: ObjectInfo) -> Sealing | None:
    """To read an object with the keys of the request. InvalidRequest, AccessDenied (wrong key)."""
    encryption.refuse_method(call.headers)
    return opened(call, info.sealed, encryption.customer_key(call.headers), info.bucket)


def sealing_of_source(call: Call, info: ObjectInfo) -> Sealing | None:
    """As `sealing_of`, for the source of a copy."""
    return opened(call, info.sealed, encryption.customer_key(call.headers, of_source=True), info.bucket)


def unseal_for(call: Call) -> Unseal:
    """For a part: the upload says how it is encrypted; a key of the client has to come again."""
    encryption.refuse_method(call.headers)
    customer = encryption.customer_key(call.headers)

    def unseal(sealed: Sealed | None) -> Sealing | None:
        return opened(call, sealed, customer, call.bucket, of_upload=True)

    return unseal


def check_upload_key(call: Call, sealed: Sealed | None) -> None:
    """Completing or listing an upload needs no key of the client; one that comes has to be the right one."""
    customer = encryption.customer_key(call.headers)
    if customer is not None:
        opened(call, sealed, customer, call.bucket, of_upload=True)


def opened(
    call: Call, sealed: Sealed | None, customer: CustomerKey | None, bucket: str, *, of_upload: bool = False
) -> Sealing | None:
    encryption.check_customer_key(sealed, customer, of_upload=of_upload)
    if sealed is None:
        return None
    if sealed.kind == BY_CLIENT:
        assert customer is not None
        sealing = open_sealing(sealed, customer.key, bucket)
        if sealing is None:
            raise encryption.wrong_key(of_upload=of_upload)
        return sealing
    ring = call.settings.encryption
    key = ring.keys.get(sealed.key_id) if ring is not None else None
    sealing = open_sealing(sealed, key, bucket) if key is not None else None
    if sealing is None:
        text = f"The object is encrypted under the key {sealed.key_id!r}, which this gateway does not have, or has "
        raise S3Error("ServiceUnavailable", text + "with other bytes: add it to its encryption.keys.")
    return sealing


def shown(call: Call, sealing: Sealing | Sealed | None) -> dict[str, str]:
    """The headers of an answer about it."""
    sealed = sealing.record if isinstance(sealing, Sealing) else sealing
    return encryption.shown(sealed, encryption.customer_key(call.headers))


def _ring(call: Call) -> KeyRing:
    if call.settings.encryption is None:
        text = "This gateway has no keys to encrypt with: set encryption.keys_file in its configuration."
        raise S3Error("NotImplemented", text)
    return call.settings.encryption


async def get_bucket_encryption(call: Call) -> web.StreamResponse:
    found = await configured(call, BucketEncryption, "ServerSideEncryptionConfigurationNotFoundError")
    return xml(encryption.bucket_encryption(found))


async def put_bucket_encryption(call: Call) -> web.StreamResponse:
    record = encryption.parse_bucket_encryption(await read_document(call))
    _ring(call)  # else every upload that follows would fail
    await configure(call, record)
    return empty()


async def delete_bucket_encryption(call: Call) -> web.StreamResponse:
    return await deconfigure(call, BucketEncryption)

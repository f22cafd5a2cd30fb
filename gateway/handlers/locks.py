"""Object lock: of buckets, and of versions of objects. What is locked is decided in the change of its register."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.responses import empty, xml
from gateway.s3 import locks
from gateway.s3.errors import S3Error
from objstore.model import bucketconfig
from objstore.model.errors import InvalidBucketState
from objstore.model.locking import lock_of, retained
from objstore.model.records import NO_LOCK, BucketState, Lock, ObjectVersion


async def lock_for_write(call: Call) -> Lock:
    """What the request says of a new version. (The default of its bucket is added where the version is made.)"""
    lock = locks.from_headers(call.headers, call.settings.clock.wall_ms())
    if lock != NO_LOCK:
        await _check_lockable(call)
    return lock


async def _check_lockable(call: Call) -> None:
    """A bucket once lockable is so for ever: an old answer that says so will do."""
    for fresh in (False, True):
        bucket = await call.engine.get_bucket(call.bucket, fresh=fresh)
        if lock_of(bucket.config) is not None:
            return
    raise S3Error("InvalidRequest", locks.NOT_LOCKABLE)


async def get_configuration(call: Call) -> web.StreamResponse:
    bucket = await call.engine.get_bucket(call.bucket)
    found = lock_of(bucket.config)
    if found is None:
        raise S3Error("ObjectLockConfigurationNotFoundError", extra={"BucketName": call.bucket})
    return xml(locks.bucket_lock(found))


async def put_configuration(call: Call) -> web.StreamResponse:
    record = locks.parse_bucket_lock(await read_document(call))

    def edit(bucket: BucketState) -> BucketState:
        if bucket.versioning != "Enabled":
            raise InvalidBucketState("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
        return bucketconfig.with_(bucket, record)

    await call.engine.configure_bucket(call.bucket, edit)
    return empty()


async def get_retention(call: Call) -> web.StreamResponse:
    lock = await _lock(call)
    if not lock.mode:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml(locks.retention(lock))


async def put_retention(call: Call) -> web.StreamResponse:
    now = call.settings.clock.wall_ms()
    wanted = locks.parse_retention(await read_document(call), now)
    bypass = locks.bypasses(call.headers)

    def edit(version: ObjectVersion) -> ObjectVersion:
        lock = retained(version.lock, wanted.mode, wanted.until_ms, now, bypass=bypass)
        return msgspec.structs.replace(version, lock=lock)

    await _check_lockable(call)
    await call.engine.amend_object(call.bucket, call.key, call.target.query.get("versionId"), edit)
    return empty()


async def get_legal_hold(call: Call) -> web.StreamResponse:
    lock = await _lock(call)
    if not (lock.hold or lock.released):
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml(locks.hold(lock))


async def put_legal_hold(call: Call) -> web.StreamResponse:
    on = locks.parse_hold(await read_document(call))

    def edit(version: ObjectVersion) -> ObjectVersion:
        return msgspec.structs.replace(version, lock=msgspec.structs.replace(version.lock, hold=on, released=not on))

    await _check_lockable(call)
    await call.engine.amend_object(call.bucket, call.key, call.target.query.get("versionId"), edit)
    return empty()


async def _lock(call: Call) -> Lock:
    await _check_lockable(call)
    info = await call.engine.head_object(call.bucket, call.key, call.target.query.get("versionId"))
    return info.lock

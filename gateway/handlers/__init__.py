"""Operation + engine -> response: one function per operation, and the table that names them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from gateway.handlers import buckets, copies, lists, multipart, objects
from gateway.handlers.call import Call
from gateway.s3.operations import DELETED, EMPTY, NOT_CONFIGURED, TABLE, Operation, Support

Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]

HANDLERS: Mapping[Operation, Handler] = {
    **dict.fromkeys(NOT_CONFIGURED, buckets.not_configured),
    **dict.fromkeys(EMPTY, buckets.empty_document),
    **dict.fromkeys(DELETED, buckets.nothing_to_delete),
    Operation.LIST_BUCKETS: buckets.list_buckets,
    Operation.CREATE_BUCKET: buckets.create_bucket,
    Operation.HEAD_BUCKET: buckets.head_bucket,
    Operation.DELETE_BUCKET: buckets.delete_bucket,
    Operation.GET_BUCKET_LOCATION: buckets.get_location,
    Operation.GET_BUCKET_VERSIONING: buckets.get_versioning,
    Operation.GET_BUCKET_ACL: buckets.get_acl,
    Operation.GET_OBJECT_ACL: buckets.get_acl,
    Operation.PUT_BUCKET_ACL: buckets.put_acl,
    Operation.PUT_OBJECT_ACL: buckets.put_acl,
    Operation.LIST_OBJECTS: lists.list_objects,
    Operation.LIST_OBJECTS_V2: lists.list_objects,
    Operation.PUT_OBJECT: objects.put_object,
    Operation.GET_OBJECT: objects.get_object,
    Operation.HEAD_OBJECT: objects.get_object,
    Operation.DELETE_OBJECT: objects.delete_object,
    Operation.DELETE_OBJECTS: objects.delete_objects,
    Operation.COPY_OBJECT: copies.copy_object,
    Operation.CREATE_MULTIPART_UPLOAD: multipart.create_upload,
    Operation.UPLOAD_PART: multipart.upload_part,
    Operation.UPLOAD_PART_COPY: copies.copy_part,
    Operation.LIST_PARTS: lists.list_parts,
    Operation.LIST_MULTIPART_UPLOADS: lists.list_uploads,
    Operation.COMPLETE_MULTIPART_UPLOAD: multipart.complete_upload,
    Operation.ABORT_MULTIPART_UPLOAD: multipart.abort_upload,
}

_SERVED = {row.operation for row in TABLE if row.support is not Support.NO}
assert _SERVED == HANDLERS.keys(), f"operations without a handler, or the reverse: {_SERVED ^ HANDLERS.keys()}"

"""Operation + engine -> response: one function per operation, and the table that names them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from gateway.handlers import (
    acls,
    attributes,
    buckets,
    copies,
    cors,
    encryption,
    inventory,
    lifecycle,
    lists,
    locks,
    multipart,
    notification,
    objects,
    policy,
    post_object,
    renames,
    tagging,
)
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
    Operation.PUT_BUCKET_VERSIONING: buckets.put_versioning,
    Operation.GET_BUCKET_CORS: cors.get_bucket_cors,
    Operation.PUT_BUCKET_CORS: cors.put_bucket_cors,
    Operation.DELETE_BUCKET_CORS: cors.delete_bucket_cors,
    Operation.GET_BUCKET_TAGGING: tagging.get_bucket_tags,
    Operation.PUT_BUCKET_TAGGING: tagging.put_bucket_tags,
    Operation.DELETE_BUCKET_TAGGING: tagging.delete_bucket_tags,
    Operation.GET_OBJECT_LOCK_CONFIGURATION: locks.get_configuration,
    Operation.PUT_OBJECT_LOCK_CONFIGURATION: locks.put_configuration,
    Operation.GET_OBJECT_TAGGING: tagging.get_object_tags,
    Operation.PUT_OBJECT_TAGGING: tagging.put_object_tags,
    Operation.DELETE_OBJECT_TAGGING: tagging.delete_object_tags,
    Operation.GET_OBJECT_RETENTION: locks.get_retention,
    Operation.PUT_OBJECT_RETENTION: locks.put_retention,
    Operation.GET_OBJECT_LEGAL_HOLD: locks.get_legal_hold,
    Operation.PUT_OBJECT_LEGAL_HOLD: locks.put_legal_hold,
    Operation.GET_OBJECT_ATTRIBUTES: attributes.get_attributes,
    Operation.GET_BUCKET_ENCRYPTION: encryption.get_bucket_encryption,
    Operation.PUT_BUCKET_ENCRYPTION: encryption.put_bucket_encryption,
    Operation.DELETE_BUCKET_ENCRYPTION: encryption.delete_bucket_encryption,
    Operation.GET_BUCKET_INVENTORY_CONFIGURATION: inventory.get_configuration,
    Operation.LIST_BUCKET_INVENTORY_CONFIGURATIONS: inventory.list_configurations,
    Operation.PUT_BUCKET_INVENTORY_CONFIGURATION: inventory.put_configuration,
    Operation.DELETE_BUCKET_INVENTORY_CONFIGURATION: inventory.delete_configuration,
    Operation.GET_BUCKET_POLICY: policy.get_policy,
    Operation.PUT_BUCKET_POLICY: policy.put_policy,
    Operation.DELETE_BUCKET_POLICY: policy.delete_policy,
    Operation.GET_BUCKET_POLICY_STATUS: policy.get_status,
    Operation.GET_PUBLIC_ACCESS_BLOCK: policy.get_block,
    Operation.PUT_PUBLIC_ACCESS_BLOCK: policy.put_block,
    Operation.DELETE_PUBLIC_ACCESS_BLOCK: policy.delete_block,
    Operation.GET_BUCKET_OWNERSHIP_CONTROLS: policy.get_ownership,
    Operation.PUT_BUCKET_OWNERSHIP_CONTROLS: policy.put_ownership,
    Operation.DELETE_BUCKET_OWNERSHIP_CONTROLS: policy.delete_ownership,
    Operation.GET_BUCKET_NOTIFICATION_CONFIGURATION: notification.get_configuration,
    Operation.PUT_BUCKET_NOTIFICATION_CONFIGURATION: notification.put_configuration,
    Operation.GET_BUCKET_LIFECYCLE_CONFIGURATION: lifecycle.get_configuration,
    Operation.PUT_BUCKET_LIFECYCLE_CONFIGURATION: lifecycle.put_configuration,
    Operation.DELETE_BUCKET_LIFECYCLE: lifecycle.delete_configuration,
    Operation.GET_BUCKET_ACL: acls.get_bucket_acl,
    Operation.GET_OBJECT_ACL: acls.get_object_acl,
    Operation.PUT_BUCKET_ACL: acls.put_bucket_acl,
    Operation.PUT_OBJECT_ACL: acls.put_object_acl,
    Operation.LIST_OBJECTS: lists.list_objects,
    Operation.LIST_OBJECTS_V2: lists.list_objects,
    Operation.LIST_OBJECT_VERSIONS: lists.list_versions,
    Operation.PUT_OBJECT: objects.put_object,
    Operation.POST_OBJECT: post_object.post_object,
    Operation.GET_OBJECT: objects.get_object,
    Operation.HEAD_OBJECT: objects.get_object,
    Operation.DELETE_OBJECT: objects.delete_object,
    Operation.DELETE_OBJECTS: objects.delete_objects,
    Operation.COPY_OBJECT: copies.copy_object,
    Operation.RENAME_OBJECT: renames.rename_object,
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

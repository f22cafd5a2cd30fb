"""Put, Get, List and DeleteBucketInventoryConfiguration. The reports are written by the leading repairer.

They are written with the rights of the cluster, so whoever asks for them must be allowed to write there himself.
"""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.bodies import read_document
from gateway.handlers.call import Call
from gateway.handlers.responses import empty, xml
from gateway.s3 import inventory
from gateway.s3.actions import of_object
from gateway.s3.errors import S3Error
from objstore.model import bucketconfig
from objstore.model.encryption import BucketEncryption
from objstore.model.errors import NoSuchBucket
from objstore.model.inventory import RULES_MAX, BucketInventory, InventoryRule
from objstore.model.records import BucketState


async def put_configuration(call: Call) -> web.StreamResponse:
    rule = inventory.parse(await read_document(call), _id(call))
    await _check_destination(call, rule)

    def edit(bucket: BucketState) -> BucketState:
        after = _of(bucket).with_rule(rule)
        if len(after.rules) > RULES_MAX:
            raise S3Error("TooManyConfigurations", f"A bucket has at most {RULES_MAX} inventory configurations.")
        return bucketconfig.with_(bucket, after)

    await _known(call)
    await call.engine.configure_bucket(call.bucket, edit)
    return empty()


async def get_configuration(call: Call) -> web.StreamResponse:
    return xml(inventory.document(_named(await _known(call), _id(call))))


async def list_configurations(call: Call) -> web.StreamResponse:
    if "continuation-token" in call.target.query:
        raise S3Error("InvalidArgument", "The continuation token is not one of this service: all is on one page.")
    return xml(inventory.listing(await _known(call)))


async def delete_configuration(call: Call) -> web.StreamResponse:
    _named(await _known(call), _id(call))

    def edit(bucket: BucketState) -> BucketState:
        left = _of(bucket).without(_id(call))
        return bucketconfig.with_(bucket, left) if left.rules else bucketconfig.without(bucket, BucketInventory)

    await call.engine.configure_bucket(call.bucket, edit)
    return empty(204)


def _id(call: Call) -> str:
    found = call.target.query.get("id")
    if not found:
        raise S3Error("InvalidArgument", "The query names no id.")
    return found


def _of(bucket: BucketState) -> BucketInventory:
    return bucketconfig.get(bucket.config, BucketInventory) or BucketInventory()


async def _known(call: Call) -> BucketInventory:
    config = (await call.engine.get_bucket(call.bucket)).config
    return bucketconfig.get(config, BucketInventory) or BucketInventory()


def _named(found: BucketInventory, id: str) -> InventoryRule:
    rule = found.find(id)
    if rule is None:
        raise S3Error("NoSuchConfiguration")
    return rule


async def _check_destination(call: Call, rule: InventoryRule) -> None:
    """S3Error AccessDenied, InvalidS3DestinationBucket, NotImplemented."""
    key = f"{rule.destination_prefix}/{call.bucket}/{rule.id}/manifest.json".lstrip("/")
    try:
        await call.access.check(of_object("PutObject", rule.destination, key))
        bucket = await call.engine.get_bucket(rule.destination)
    except NoSuchBucket:
        raise S3Error("InvalidS3DestinationBucket") from None
    default = bucketconfig.get(bucket.config, BucketEncryption)
    if default is not None and default.algorithm:
        text = f"The bucket {rule.destination} encrypts what comes without a word; reports cannot be encrypted yet."
        raise S3Error("NotImplemented", text)

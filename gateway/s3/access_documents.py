"""XML of a bucket's public access block, ownership controls and policy status. Pure."""

from __future__ import annotations

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from objstore.model.identity import BucketOwnership, PublicAccessBlock

_FIELDS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_RULES = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")


def parse_block(body: bytes) -> PublicAccessBlock:
    root = documents.read(body, "PublicAccessBlockConfiguration", *_FIELDS)
    return PublicAccessBlock(*(_boolean(root, name) for name in _FIELDS))


def _boolean(root: xml.Node, name: str) -> bool:
    value = (documents.text(root, name) or "false").lower()
    if value not in ("true", "false"):
        raise documents.malformed(f"{name} must be true or false")
    return value == "true"


def public_access_document(block: PublicAccessBlock) -> bytes:
    values = (block.block_acls, block.ignore_acls, block.block_policy, block.restrict_buckets)
    body = "".join(xml.element(name, value) for name, value in zip(_FIELDS, values, strict=True))
    return xml.document("PublicAccessBlockConfiguration", body)


def parse_ownership(body: bytes) -> BucketOwnership:
    root = documents.read(body, "OwnershipControls", "Rule")
    rules = root.all("Rule")
    if len(rules) != 1:
        raise documents.malformed("OwnershipControls must have one Rule")
    documents.only(rules[0], "ObjectOwnership")
    rule = documents.text(rules[0], "ObjectOwnership")
    if rule not in _RULES:
        raise documents.malformed(f"{rule!r} is no ObjectOwnership")
    return BucketOwnership(rule)


def check_rule(rule: str) -> None:
    """Of the header of CreateBucket. S3Error InvalidArgument."""
    if rule not in _RULES:
        extra = {"ArgumentName": "x-amz-object-ownership", "ArgumentValue": rule}
        raise S3Error("InvalidArgument", f"Invalid x-amz-object-ownership header: {rule}", extra=extra)


def ownership_document(found: BucketOwnership) -> bytes:
    return xml.document("OwnershipControls", f"<Rule>{xml.element('ObjectOwnership', found.rule)}</Rule>")


def status_document(public: bool) -> bytes:
    return xml.document("PolicyStatus", xml.element("IsPublic", public))

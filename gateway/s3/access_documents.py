"""XML of a bucket's public access block, ownership controls and policy status. Pure."""

from __future__ import annotations

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from objstore.model.identity import BucketOwnership, PublicAccessBlock

_FIELDS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_ONLY = "BucketOwnerEnforced"


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
    if rule in ("BucketOwnerPreferred", "ObjectWriter"):
        raise S3Error("NotImplemented", f"The object ownership {rule} needs access control lists; only {_ONLY} exists.")
    if rule != _ONLY:
        raise documents.malformed(f"{rule!r} is no ObjectOwnership")
    return BucketOwnership(rule)


def ownership_document(found: BucketOwnership) -> bytes:
    return xml.document("OwnershipControls", f"<Rule>{xml.element('ObjectOwnership', found.rule)}</Rule>")


def status_document(public: bool) -> bytes:
    return xml.document("PolicyStatus", xml.element("IsPublic", public))


def gives_the_owner_all(body: bytes, owner: str) -> bool:
    """Whether an AccessControlPolicy says what every bucket and object has: all rights for the owner, none for others.
    S3Error MalformedXML. `owner`: the id."""
    root = documents.read(body, "AccessControlPolicy", "Owner", "AccessControlList")
    named, listed = documents.child(root, "Owner"), documents.child(root, "AccessControlList")
    if listed is None:
        raise documents.malformed("AccessControlPolicy has no AccessControlList")
    documents.only(listed, "Grant")
    if named is not None and documents.text(named, "ID") != owner:
        return False
    for grant in listed.all("Grant"):
        documents.only(grant, "Grantee", "Permission")
        grantee = documents.child(grant, "Grantee")
        if grantee is None:
            raise documents.malformed("Grant has no Grantee")
        if documents.text(grantee, "ID") != owner or documents.text(grant, "Permission") != "FULL_CONTROL":
            return False
    return bool(listed.all("Grant"))

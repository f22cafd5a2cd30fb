"""Server-side encryption in requests and answers: whose key, whether it is well formed, and what is shown of it.

Keys of the client (SSE-C) never get into a message. Not here: encrypting (objstore/codec/sealing.py), and what keys
the process has (gateway/handlers/encryption.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.s3 import xml
from gateway.s3.errors import S3Error
from objstore.model.encryption import BucketEncryption
from objstore.model.limits import XML_BODY_BYTES_MAX
from objstore.model.sealed import BY_CLIENT, Sealed

AES256 = "AES256"
SSE = "x-amz-server-side-encryption"
_CUSTOMER = SSE + "-customer-"
_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_FIELDS = ("algorithm", "key", "key-md5")
_KMS = (SSE + "-aws-kms-key-id", SSE + "-context", SSE + "-bucket-key-enabled")

# For the rows of `operations`: x-amz-* headers that an operation obeys.
CUSTOMER_HEADERS = " ".join(_CUSTOMER + name for name in _FIELDS)
SOURCE_HEADERS = " ".join(_SOURCE + name for name in _FIELDS)
WRITE_HEADERS = " ".join((SSE, *_KMS, CUSTOMER_HEADERS))
READ_HEADERS = " ".join((SSE, CUSTOMER_HEADERS))  # the first is refused as AWS does, with 400

_NOT_THE_KEY = "The provided encryption parameters did not match the ones used originally."
_NEEDS_KEY = (
    "The object was stored using a form of Server Side Encryption. "
    "The correct parameters must be provided to retrieve the object."
)
_NOT_APPLICABLE = "The encryption parameters are not applicable to this object."
_UPLOAD_NEEDS_KEY = (
    "The multipart upload initiate requested encryption. "
    "Subsequent part requests must include the appropriate encryption parameters."
)
_UPLOAD_WITHOUT_KEY = (
    "The multipart upload initiate did not request encryption. "
    "Please resend the request without sending encryption parameters."
)


@dataclass(frozen=True, slots=True)
class CustomerKey:
    key: bytes = field(repr=False)
    md5: str  # base64, as shown


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a write asks for: a key of the client, encryption by the cluster, or neither."""

    customer: CustomerKey | None = None
    cluster: bool = False

    def __bool__(self) -> bool:
        return self.cluster or self.customer is not None


def wanted(headers: Mapping[str, str]) -> Wanted:
    """S3Error InvalidArgument, InvalidEncryptionAlgorithmError, NotImplemented (aws:kms)."""
    customer = customer_key(headers)
    method = headers.get(SSE)
    if method is not None and customer is not None:
        text = "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
        raise _invalid(SSE, method, text)
    if method is not None:
        _check_method(SSE, method)
    if any(name in headers for name in _KMS[:2]) or headers.get(_KMS[2], "false").lower() == "true":
        name = next(name for name in _KMS if name in headers)
        if method != AES256 or name != _KMS[2]:
            text = f"Server Side Encryption with AWS KMS managed key requires HTTP header {SSE} : aws:kms"
            raise _invalid(name, headers[name], text)
    return Wanted(customer, method is not None)


def _check_method(name: str, method: str) -> None:
    if method.startswith("aws:"):
        text = f"Encryption by a key management service ({method}) is not implemented; AES256 and SSE-C are."
        raise S3Error("NotImplemented", text)
    if method != AES256:
        raise _invalid(name, method, "The encryption method specified is not supported")


def customer_key(headers: Mapping[str, str], *, of_source: bool = False) -> CustomerKey | None:
    """The client's key of this request (or of the source of a copy), checked. InvalidArgument,
    InvalidEncryptionAlgorithmError."""
    prefix = _SOURCE if of_source else _CUSTOMER
    algorithm, value, md5 = [headers.get(prefix + name) for name in _FIELDS]
    if algorithm is None and value is None and md5 is None:
        return None
    if algorithm is None:
        text = "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption "
        raise _invalid(prefix + "algorithm", "null", text + "algorithm.")
    if algorithm != AES256:
        text = "The encryption request that you specified is not valid. The valid value is AES256."
        extra = {"ArgumentName": prefix + "algorithm", "ArgumentValue": algorithm}
        raise S3Error("InvalidEncryptionAlgorithmError", text, extra=extra)
    needs = "Requests specifying Server Side Encryption with Customer provided keys must provide "
    if value is None:
        raise _invalid(prefix + "key", "null", needs + "an appropriate secret key.")
    if md5 is None:
        raise _invalid(prefix + "key-MD5", "null", needs + "the client calculated MD5 of the secret key.")
    key, digest = _decoded(value), _decoded(md5)
    if len(key) != 32:
        raise S3Error("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    if not hmac.compare_digest(hashlib.md5(key, usedforsecurity=False).digest(), digest):
        raise S3Error("InvalidArgument", "The calculated MD5 hash of the key did not match the hash that was provided.")
    return CustomerKey(key, md5)


def refuse_method(headers: Mapping[str, str]) -> None:
    """For operations that only repeat what was decided before: the header has no meaning there."""
    if SSE in headers:
        raise _invalid(SSE, headers[SSE], f"{SSE} header is not supported for this operation.")


def check_customer_key(sealed: Sealed | None, customer: CustomerKey | None, *, of_upload: bool) -> None:
    """Whether a key of the client is what this object or upload needs. Not whether it is the right one."""
    if sealed is not None and sealed.kind == BY_CLIENT:
        if customer is None:
            raise S3Error("InvalidRequest", _UPLOAD_NEEDS_KEY if of_upload else _NEEDS_KEY)
    elif customer is not None:
        raise S3Error("InvalidRequest", _UPLOAD_WITHOUT_KEY if of_upload else _NOT_APPLICABLE)


def wrong_key(*, of_upload: bool) -> S3Error:
    """Of an object it is no leave to read it; of an upload, another key than the one that began it."""
    return S3Error("InvalidRequest", _NOT_THE_KEY) if of_upload else S3Error("AccessDenied")


def shown(sealed: Sealed | None, customer: CustomerKey | None) -> dict[str, str]:
    """The headers that answers have."""
    if sealed is None:
        return {}
    if sealed.kind == BY_CLIENT:
        assert customer is not None, "whoever reads or writes it has shown the key"
        return {_CUSTOMER + "algorithm": AES256, _CUSTOMER + "key-MD5": customer.md5}
    return {SSE: AES256}


def parse_bucket_encryption(body: bytes) -> BucketEncryption:
    """S3Error MalformedXML, NotImplemented (aws:kms)."""
    try:
        root = xml.parse(body, "ServerSideEncryptionConfiguration", size_max=XML_BODY_BYTES_MAX)
        rules = root.all("Rule")
        if len(rules) != 1 or len(root.children) != 1:
            raise xml.XMLError("there must be one Rule")
        rule = rules[0]
        _only(rule, "ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes")
        by_default = rule.all("ApplyServerSideEncryptionByDefault")
        if len(by_default) > 1 or not rule.children:
            raise xml.XMLError("a Rule has one ApplyServerSideEncryptionByDefault")
        algorithm = _algorithm(by_default[0]) if by_default else AES256
        bucket_key = (rule.only("BucketKeyEnabled") or "false").strip()
        if bucket_key not in ("true", "false"):
            raise xml.XMLError("BucketKeyEnabled is true or false")
        return BucketEncryption(algorithm, bucket_key == "true", not _blocked(rule))
    except xml.XMLError as error:
        raise S3Error("MalformedXML", f"The encryption configuration is not valid: {error}.") from error


def _algorithm(node: xml.Node) -> str:
    _only(node, "SSEAlgorithm", "KMSMasterKeyID")
    algorithm = (node.only("SSEAlgorithm") or "").strip()
    if algorithm.startswith("aws:kms"):
        _check_method("SSEAlgorithm", algorithm)
    if algorithm != AES256:
        raise xml.XMLError(f"SSEAlgorithm is {AES256}")
    if node.all("KMSMasterKeyID"):
        raise S3Error(
            "InvalidArgument", "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms"
        )
    return algorithm


def _blocked(rule: xml.Node) -> bool:
    """Whether keys of the client are refused."""
    kinds: list[str] = []
    for node in rule.all("BlockedEncryptionTypes"):
        _only(node, "EncryptionType")
        kinds += [each.text.strip() for each in node.all("EncryptionType")]
    if not set(kinds) <= {"NONE", "SSE-C"} or len(kinds) > 1:
        raise xml.XMLError("EncryptionType is NONE or SSE-C")
    return "SSE-C" in kinds


def _only(node: xml.Node, *names: str) -> None:
    for child in node.children:
        if child.name not in names:
            raise xml.XMLError(f"{node.name} cannot have the element {child.name}")


def bucket_encryption(found: BucketEncryption) -> bytes:
    default = xml.element("SSEAlgorithm", found.algorithm)
    rule = f"<ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault>"
    rule += xml.element("BucketKeyEnabled", found.bucket_key)
    if not found.client_keys:
        rule += f"<BlockedEncryptionTypes>{xml.element('EncryptionType', 'SSE-C')}</BlockedEncryptionTypes>"
    return xml.document("ServerSideEncryptionConfiguration", f"<Rule>{rule}</Rule>")


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _invalid(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, extra={"ArgumentName": name, "ArgumentValue": value})

"""What a target is sent: documents as S3 writes them, and a signature over them. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from objstore.model.notification import Delivery, Event

OWNER = "objstore"
LATER = ("ObjectTagging", "LifecycleExpiration")  # groups of names that came to S3 with version 2.3
SIGNATURE = "x-objstore-signature"
TIMESTAMP = "x-objstore-timestamp"
DELIVERY = "x-objstore-delivery"  # the same whenever the same event is sent again: for those who want it once


def event_document(event: Event, delivery: Delivery, key: bytes, region: str) -> bytes:
    thing: dict[str, Any] = {"key": quote_plus(key.decode(errors="replace"), safe="/")}
    group = event.name.partition(":")[0]
    if group == "ObjectCreated":
        thing["size"] = event.size
    if group in ("ObjectCreated", "ObjectTagging"):
        thing["eTag"] = event.etag
    if event.version:
        thing["versionId"] = event.version
    thing["sequencer"] = event.sequence.hex().upper()
    if event.omitted:
        thing["objstore:omittedBefore"] = event.omitted
    record = {
        "eventVersion": "2.3" if group in LATER else "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": _time(event.at_ms),
        "eventName": event.name,
        "userIdentity": {"principalId": event.principal or "Anonymous"},
        "requestParameters": {"sourceIPAddress": event.source},
        "responseElements": {"x-amz-request-id": event.request, "x-amz-id-2": event.request},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": delivery.rule,
            "bucket": {
                "name": event.bucket,
                "ownerIdentity": {"principalId": OWNER},
                "arn": f"arn:aws:s3:::{event.bucket}",
            },
            "object": thing,
        },
    }
    return json.dumps({"Records": [record]}).encode()


def test_document(bucket: str, request_id: str, now_ms: int) -> bytes:
    """What S3 sends when a configuration is put, to see whether the target answers."""
    return json.dumps(
        {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": _time(now_ms),
            "Bucket": bucket,
            "RequestId": request_id,
            "HostId": request_id,
        }
    ).encode()


def headers(body: bytes, delivery_id: str, secret: str, now_ms: int) -> dict[str, str]:
    """With a secret: the HMAC-SHA256 of the time, a point and the body, so that old messages can be told from new."""
    found = {"Content-Type": "application/json", "User-Agent": OWNER, DELIVERY: delivery_id}
    if secret:
        at = str(now_ms // 1000)
        digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        found |= {TIMESTAMP: at, SIGNATURE: f"sha256={digest}"}
    return found


def delivery_id(event: Event, delivery: Delivery, key: bytes) -> str:
    raw = b"\0".join((event.bucket.encode(), key, event.sequence, delivery.rule.encode(), delivery.target.encode()))
    return hashlib.sha256(raw).hexdigest()[:32]


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

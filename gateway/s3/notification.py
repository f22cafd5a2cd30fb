"""The notification configuration of a bucket as a document. Pure.

Queues, topics and functions are all webhooks here: `arn:objstore:webhook::NAME`, by the name of a target in the
configuration of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from gateway.s3 import documents, xml
from gateway.s3.errors import S3Error
from objstore.model.notification import ARN, KINDS, NAMES, BucketNotification, Rule, overlapping

RULES_MAX = 100
DOCUMENT_BYTES_MAX = 256 * 1024
VALUE_CHARS_MAX = 1024
SKIP_HEADER = "x-amz-skip-destination-validation"
INVALID_TARGETS = "Unable to validate the following destination configurations"

_ARN = re.compile(re.escape(ARN) + r"[a-z0-9][a-z0-9_-]{0,62}")
_CALLED = {"Queue": "queue", "Topic": "topic", "CloudFunction": "function"}
_EVENT_BRIDGE = "EventBridgeConfiguration"


def parse(body: bytes) -> BucketNotification:
    """S3Error MalformedXML, InvalidArgument, NotImplemented."""
    names = [f"{kind}Configuration" for kind in KINDS]
    root = documents.read(body, "NotificationConfiguration", *names, _EVENT_BRIDGE, size_max=DOCUMENT_BYTES_MAX)
    if root.all(_EVENT_BRIDGE):
        raise S3Error("NotImplemented", "Amazon EventBridge does not exist here; send events to a webhook.")
    nodes = [(kind, node) for kind in KINDS for node in root.all(f"{kind}Configuration")]
    if len(nodes) > RULES_MAX:
        raise _invalid(f"A bucket can have at most {RULES_MAX} notification configurations.")
    rules: list[Rule] = []
    for number, (kind, node) in enumerate(nodes, 1):
        rules.append(_rule(kind, node, f"objstore-{number}"))
    ids = [rule.id for rule in rules]
    if len(set(ids)) < len(ids):
        raise _invalid("Same ID used for multiple configurations. IDs must be unique.")
    if (pair := overlapping(rules)) is not None:
        raise _overlap(pair)
    return BucketNotification(tuple(rules))


def _rule(kind: str, node: xml.Node, default_id: str) -> Rule:
    documents.only(node, "Id", "Event", "Filter", kind)
    arn = documents.text(node, kind)
    events = tuple(dict.fromkeys(one.text.strip() for one in node.all("Event")))
    if not arn or not events:
        raise documents.malformed(f"{node.name} has {kind} and Event")
    if not _ARN.fullmatch(arn):
        raise _invalid("The ARN could not be parsed", ArgumentName=kind, ArgumentValue=arn)
    for event in events:
        if event.removeprefix("s3:") not in NAMES or not event.startswith("s3:"):
            text = "The event is not supported for notifications"
            raise _invalid(text, ArgumentName="Event", ArgumentValue=event)
    id = documents.text(node, "Id") or default_id
    if len(id) > 255:
        raise _invalid("The ID of a notification configuration has at most 255 characters.")
    prefix, suffix = _filter(documents.child(node, "Filter"))
    names = tuple(event.removeprefix("s3:") for event in events)
    return Rule(id, arn.removeprefix(ARN), names, prefix, suffix, kind)


def _filter(node: xml.Node | None) -> tuple[str, str]:
    """(prefix, suffix)"""
    if node is None:
        return "", ""
    documents.only(node, "S3Key")
    key = documents.child(node, "S3Key")
    if key is None:
        return "", ""
    documents.only(key, "FilterRule")
    found: dict[str, str] = {}
    for rule in key.all("FilterRule"):
        documents.only(rule, "Name", "Value")
        given = documents.text(rule, "Name") or ""
        name = given.lower()
        value = documents.child(rule, "Value")
        if name not in ("prefix", "suffix"):
            text = "filter rule name must be either prefix or suffix"
            raise _invalid(text, ArgumentName="FilterRule.Name", ArgumentValue=given)
        if name in found:
            text = f"Cannot specify more than one {name} rule in a filter."
            raise _invalid(text, ArgumentName="FilterRule.Name", ArgumentValue=given)
        found[name] = value.text if value is not None else ""
        if len(found[name].encode()) > VALUE_CHARS_MAX:
            raise _invalid(f"filter rule value cannot have more than {VALUE_CHARS_MAX} bytes")
    return found.get("prefix", ""), found.get("suffix", "")


def _overlap(pair: tuple[Rule, Rule]) -> S3Error:
    if any(rule.prefix or rule.suffix for rule in pair):
        text = "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes "
        return _invalid(text + "are overlapping for the same event type.")
    return _invalid("Configurations overlap. Configurations on the same bucket cannot share a common event type.")


def unknown_targets(found: BucketNotification, known: Collection[str]) -> S3Error | None:
    missing = {
        rule.target: f"The destination {_CALLED[rule.kind]} does not exist"
        for rule in found.rules
        if rule.target not in known
    }
    return failed_targets(missing) if missing else None


def failed_targets(reasons: dict[str, str]) -> S3Error:
    """`reasons`: by target, why it cannot be used."""
    extra: dict[str, str] = {}
    for number, (target, reason) in enumerate(reasons.items(), 1):
        extra[f"ArgumentName{number}"] = ARN + target
        extra[f"ArgumentValue{number}"] = reason
    return S3Error("InvalidArgument", INVALID_TARGETS, extra=extra)


def document(found: BucketNotification) -> bytes:
    """In the order of the S3 API: topics, queues, functions."""
    order = ("Topic", "Queue", "CloudFunction")
    rules = sorted(found.rules, key=lambda rule: order.index(rule.kind))
    return xml.document("NotificationConfiguration", "".join(map(_shown, rules)))


def _shown(rule: Rule) -> str:
    text = xml.element("Id", rule.id) + xml.element(rule.kind, ARN + rule.target)
    text += "".join(xml.element("Event", f"s3:{name}") for name in rule.events)
    filters = [(name, value) for name, value in (("Prefix", rule.prefix), ("Suffix", rule.suffix)) if value]
    if filters:
        rules = "".join(
            f"<FilterRule>{xml.element('Name', name)}{xml.element('Value', value)}</FilterRule>"
            for name, value in filters
        )
        text += f"<Filter><S3Key>{rules}</S3Key></Filter>"
    return f"<{rule.kind}Configuration>{text}</{rule.kind}Configuration>"


def _invalid(text: str, **extra: str) -> S3Error:
    return S3Error("InvalidArgument", text, extra=extra)

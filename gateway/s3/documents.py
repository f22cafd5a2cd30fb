"""Reading XML bodies strictly: an element that is not known, missing or twice there is MalformedXML."""

from __future__ import annotations

from gateway.s3 import xml
from gateway.s3.errors import S3Error
from objstore.model.limits import XML_BODY_BYTES_MAX


def read(body: bytes, root: str, *names: str, size_max: int = XML_BODY_BYTES_MAX) -> xml.Node:
    """The root of that name, whose children can have these names."""
    try:
        node = xml.parse(body, root, size_max=size_max)
    except xml.XMLError as error:
        raise malformed(str(error)) from error
    only(node, *names)
    return node


def only(node: xml.Node, *names: str) -> None:
    for child in node.children:
        if child.name not in names:
            raise malformed(f"{node.name} has an unknown element {child.name}")


def text(node: xml.Node, name: str) -> str | None:
    """Of the one child of that name, without white space around it; None if there is none."""
    try:
        found = node.only(name)
    except xml.XMLError as error:
        raise malformed(str(error)) from error
    return found.strip() if found is not None else None


def child(node: xml.Node, name: str) -> xml.Node | None:
    """The one child of that name."""
    found = node.all(name)
    if len(found) > 1:
        raise malformed(f"{node.name} has {len(found)} elements {name}, at most one may be given")
    return found[0] if found else None


def malformed(reason: str) -> S3Error:
    return S3Error("MalformedXML", f"The XML you provided was not well-formed or not as expected: {reason}.")

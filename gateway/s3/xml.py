"""XML both ways: escaping and elements for answers, a bounded strict parser for request bodies.

Not here: which document has which elements (`answers`, `bodies`). Writing: XML 1.0 has no form for most control
characters, not even as a reference; such a character becomes U+FFFD, and lists avoid it by switching to
encoding-type=url (`representable`). Reading: no DTD, so no entities to expand; size and depth are bounded;
namespaces are dropped, because clients send any of three or none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DEPTH_MAX = 8

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # XML 1.0, section 2.2
_MARKUP = re.compile('[&<>"\r]')
_SPECIAL = re.compile(f"{_FORBIDDEN.pattern}|{_MARKUP.pattern}")
_REFERENCE = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}  # section 2.11: CR reads as LF

_ASCII_SPECIAL = bytes(code for code in range(128) if _SPECIAL.search(chr(code)))


class XMLError(ValueError):
    """A body that is not acceptable XML; the text says why."""


def representable(text: str) -> bool:
    """Whether a parser would read exactly `text` from `escape(text)`."""
    return _is_plain(text) or _FORBIDDEN.search(text) is None


def escape(text: str) -> str:
    """Character data of an element; characters that XML 1.0 cannot carry become U+FFFD."""
    if _SPECIAL.search(text) is None:
        return text
    return _MARKUP.sub(lambda found: _REFERENCE[found[0]], _FORBIDDEN.sub("\ufffd", text))


def escape_all(texts: list[str]) -> list[str]:
    """`escape` of each. A list has thousands, and hardly ever one with something to escape."""
    return texts if _is_plain("".join(texts)) else [escape(text) for text in texts]


def _is_plain(text: str) -> bool:
    """It is ASCII without anything special. Several times as fast as to search for an expression."""
    if not text.isascii():
        return False
    raw = text.encode("ascii")
    return len(raw.translate(None, _ASCII_SPECIAL)) == len(raw)


def element(name: str, value: str | int | bool) -> str:
    """<name>escaped value</name>; a bool is written as true or false."""
    if isinstance(value, str):
        text = escape(value)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    return f"<{name}>{text}</{name}>"


def document(root: str, content: str, *, namespace: bool = True) -> bytes:
    """A whole document around `content`, which is markup already."""
    attribute = f' xmlns="{NAMESPACE}"' if namespace else ""
    return DECLARATION + f"<{root}{attribute}>{content}</{root}>".encode()


@dataclass(slots=True)
class Node:
    """An element read: its local name, the text before, between and after its children, and they in order."""

    name: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def all(self, name: str) -> list[Node]:
        return [child for child in self.children if child.name == name]

    def only(self, name: str) -> str | None:
        """The text of the one child of that name, or None; XMLError when there are several."""
        found = self.all(name)
        if len(found) > 1:
            raise XMLError(f"{self.name} has {len(found)} elements {name}, at most one may be given")
        return found[0].text if found else None


class _Builder:
    """Collects the events of expat into Nodes."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._text: list[list[str]] = []

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        node = Node(name.rpartition(" ")[2])
        if len(self._open) >= DEPTH_MAX:
            raise XMLError(f"elements are nested deeper than {DEPTH_MAX}")
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)
        self._text.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._text.pop())

    def data(self, text: str) -> None:
        self._text[-1].append(text)

    def doctype(self, *_declaration: object) -> None:
        raise XMLError("a document type declaration is not allowed")


def parse(body: bytes, root: str, *, size_max: int) -> Node:
    """The document, whose root must be called `root`; XMLError otherwise."""
    if len(body) > size_max:
        raise XMLError(f"the body has {len(body)} bytes, at most {size_max} are allowed")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.buffer_text = True
    try:
        parser.Parse(body, True)
    except XMLError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: a declared encoding Python lacks
        raise XMLError(f"not well-formed XML: {error}") from error
    if builder.root is None or builder.root.name != root:
        raise XMLError(f"the root element is {builder.root.name if builder.root else 'missing'}, expected {root}")
    return builder.root

"""XML: what is written is read back, and what is read is bounded."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.s3 import xml

ANY = st.text(st.characters(codec="utf-8"))


@settings(deadline=None)
@given(ANY)
def test_what_is_escaped_is_read_back_by_a_parser(text: str) -> None:
    body = xml.document("R", xml.element("E", text))
    read = ElementTree.fromstring(body).findtext(f"{{{xml.NAMESPACE}}}E") or ""
    if xml.representable(text):
        assert read == text
    assert len(read) == len(text)
    assert xml.parse(body, "R", size_max=1 << 20).only("E") == read


def test_the_forbidden_characters_are_those_that_a_parser_refuses() -> None:
    for code in (*range(0x20), 0x7F, 0x85, 0xFFFD, 0xFFFE, 0xFFFF, 0x10FFFF):
        try:
            read = ElementTree.fromstring(f"<a>&#{code};</a>").text
        except ElementTree.ParseError:
            read = None
        assert xml.representable(chr(code)) == (read == chr(code)), hex(code)
    assert not xml.representable("\ud800")


def test_the_bytes_of_an_escape_are_those_of_s3() -> None:
    assert xml.escape("a&b<c>d\"e'f\rg\nh\ti") == "a&amp;b&lt;c&gt;d&quot;e'f&#13;g\nh\ti"
    assert xml.document("R", xml.element("A", True) + xml.element("B", 7), namespace=False) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<R><A>true</A><B>7</B></R>'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"<R><E>x</E></R>",
        b'<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><E>x</E></R>',
        b'<n:R xmlns:n="urn:other"><n:E>x</n:E></n:R>',
        '<?xml version="1.0" encoding="UTF-16"?><R><E>x</E></R>'.encode("utf-16"),
    ],
)
def test_any_namespace_or_none_is_read(body: bytes) -> None:
    assert xml.parse(body, "R", size_max=1000).only("E") == "x"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<R>",
        b"<R></S>",
        b"<S></S>",
        b"<R>\xff</R>",
        b"<R>&nope;</R>",
        b"<!DOCTYPE R><R></R>",
        b'<!DOCTYPE R [<!ENTITY a "b">]><R>&a;</R>',
        b'<!DOCTYPE R SYSTEM "file:///etc/passwd"><R></R>',
        b"<R></R><R></R>",
        b"<R>" + b"<a>" * 9 + b"</a>" * 9 + b"</R>",
        b"<R>" + b" " * 1000 + b"</R>",
        b'<?xml version="1.0" encoding="nonsense"?><R></R>',
        b'<?xml version="1.0" encoding="shift_jis"?><R></R>',
        b'<?xml version="1.0" encoding="hex"?><R></R>',
    ],
)
def test_what_is_malformed_or_too_much_is_refused(body: bytes) -> None:
    with pytest.raises(xml.XMLError):
        xml.parse(body, "R", size_max=1000)


def test_an_element_that_may_come_once_is_refused_twice() -> None:
    node = xml.parse(b"<R><E>1</E><E>2</E></R>", "R", size_max=100)
    assert [child.text for child in node.all("E")] == ["1", "2"]
    with pytest.raises(xml.XMLError):
        node.only("E")

"""The writer of YAML, against a parser that is not ours."""

from __future__ import annotations

from typing import Any

import pytest
import yaml as parser
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.deploy import yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n #:-'\"|>?!&*%@`{}[],\t"))
VALUES: Any = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500)
@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    assert parser.safe_load(yaml.dump(value)) == value


@pytest.mark.parametrize(
    "text", ["yes", "NO", "null", "1.5", "0x1f", "1e3", "12:30", "~", "on", "<<", "=", ".inf", "-"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert parser.safe_load(yaml.dump({text: text})) == {text: text}


def test_lines_of_text_stay_readable() -> None:
    assert yaml.dump({"a": "one\n\n  two\n"}) == "a: |2\n  one\n\n    two\n"

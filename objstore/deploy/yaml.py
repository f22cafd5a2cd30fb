"""Writes YAML: mappings, lists, text, whole numbers, booleans and null, in block style.

A parser of YAML would be a dependency for a page of output, and JSON, which is YAML too, is nothing that people like to
go on editing. Text is quoted unless it can be nothing but text, and kept in lines if it has several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | bool | Sequence[Value] | Mapping[str, Value] | None"

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_LINES = re.compile(r"[ -~]+(\n[ -~]*)*\n[ -~]*[!-~]\n?")  # text of several lines that is legible as it is
_RESERVED = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null"))


def dump(value: Value) -> str:
    return "\n".join(_block(value)) + "\n"


def dump_all(values: Sequence[Value]) -> str:
    return "---\n".join(map(dump, values))


def _block(value: Value) -> list[str]:
    """Lines without common indentation."""
    if isinstance(value, Mapping) and value:
        return [line for key, item in value.items() for line in _entry(f"{_scalar(key)}:", item)]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return [line for item in value for line in _item(item)]
    return [_scalar(value)]


def _entry(key: str, item: Value) -> list[str]:
    if isinstance(item, str) and _LINES.fullmatch(item):
        return [f"{key} {_marker(item)}", *_indented(item.removesuffix("\n").split("\n"))]
    lines = _block(item)
    if _is_nested(item):
        return [key, *_indented(lines)]
    return [f"{key} {lines[0]}"]


def _item(item: Value) -> list[str]:
    if isinstance(item, str) and _LINES.fullmatch(item):
        return [f"- {_marker(item)}", *_indented(item.removesuffix("\n").split("\n"))]
    first, *rest = _block(item)
    return [f"- {first}", *_indented(rest)]


def _is_nested(item: Value) -> bool:
    return isinstance(item, Mapping | Sequence) and not isinstance(item, str) and bool(item)


def _marker(text: str) -> str:
    """How a literal block begins: with its indentation, so that blanks at the start of the text stay."""
    return "|2" if text.endswith("\n") else "|2-"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
            return value
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value)  # numbers, booleans, null, and what is empty

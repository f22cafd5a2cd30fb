"""Patterns of policies: * stands for any characters, ? for one, ${name} for a value of the request.

A value never acts as a pattern: a user with the name `*` is nobody else. Matching takes time in proportion to the
lengths, whatever the pattern: the parts between stars are found one after the other, each at its first place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_VARIABLE = re.compile(r"\$\{([^},]+)(?:,\s*'([^']*)')?\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}


def matches(
    pattern: str, text: str, variables: Mapping[str, tuple[str, ...]] | None, ignore_case: bool = False
) -> bool:
    """`variables`: by lower-case name; None: `${` means itself. A variable without a value matches nothing."""
    if variables is None or "${" not in pattern:
        return glob(pattern, ignore_case).match(text) is not None
    pieces, at = [], 0
    for found in _VARIABLE.finditer(pattern):
        value = _value(found, variables)
        if value is None:
            return False
        pieces += [_pieces(pattern[at : found.start()]), [re.escape(value)]]
        at = found.end()
    pieces.append(_pieces(pattern[at:]))
    return _compile([piece for run in pieces for piece in run], ignore_case).match(text) is not None


def expand(text: str, variables: Mapping[str, tuple[str, ...]] | None) -> str | None:
    """With variables replaced, where * and ? mean themselves. None: one has no value."""
    if variables is None or "${" not in text:
        return text
    pieces, at = [], 0
    for found in _VARIABLE.finditer(text):
        value = _value(found, variables)
        if value is None:
            return None
        pieces += [text[at : found.start()], value]
        at = found.end()
    return "".join((*pieces, text[at:]))


@lru_cache(maxsize=2048)
def glob(pattern: str, ignore_case: bool = False) -> re.Pattern[str]:
    return _compile(_pieces(pattern), ignore_case)


def _value(found: re.Match[str], variables: Mapping[str, tuple[str, ...]]) -> str | None:
    name, default = found[1].strip(), found[2]
    if name in _LITERALS:
        return _LITERALS[name]
    values = variables.get(name.lower(), ())
    return values[0] if len(values) == 1 else default


def _pieces(pattern: str) -> list[str]:
    """Regular expressions of its characters; "*" for a star."""
    return ["*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern]


def _compile(pieces: list[str], ignore_case: bool) -> re.Pattern[str]:
    runs: list[str] = [""]
    for piece in pieces:
        if piece == "*":
            runs.append("")
        else:
            runs[-1] += piece
    first, *rest = runs
    if rest:
        *middle, last = rest
        first += "".join(f"(?>.*?{run})" for run in middle if run) + f".*{last}"
    return re.compile(first + r"\Z", re.DOTALL | (re.IGNORECASE if ignore_case else 0))

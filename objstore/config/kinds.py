"""What the value of a key may be: how it is read from TOML or text, how it is shown, what is allowed. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from objstore.model.cluster import ErasureCode
from objstore.model.errors import InvalidRequest
from objstore.model.sealed import parse_keys

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtp", 1)},
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtp", 1)},
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_CLUSTER_ID = re.compile(r"[0-9a-f]{32}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


PLACEHOLDER = "replace me"  # how the secrets of the example file begin


@dataclass(frozen=True, slots=True)
class Kind:
    """`parse` raises ValueError for what is not allowed; the message is `allowed`."""

    allowed: str
    parse: Callable[[object], Any]
    show: Callable[[Any], str] = str
    secret: bool = False


def parse_size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        match = _SIZE.fullmatch(_text(value).strip())
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError
        found = (
            int(float(match[1]) * _UNITS[match[2].lower()])
            if "." in match[1]
            else int(match[1]) * _UNITS[match[2].lower()]
        )
    if not 0 <= found < 1 << 63:
        raise ValueError
    return found


def parse_rate(value: object) -> int:
    """Bytes per second, at least one."""
    if not (found := parse_size(value)):
        raise ValueError
    return found


def show_size(value: int) -> str:
    """In the largest binary unit that divides it, so that it reads back as the same number."""
    for power, unit in zip(range(5, 0, -1), ("PiB", "TiB", "GiB", "MiB", "KiB"), strict=True):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{unit}"
    return f"{value}B"


def split_address(address: str) -> tuple[str, int]:
    """ "host:port" or "[v6]:port" -> (host, port); ValueError otherwise."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65535:
        raise ValueError(address)
    return match[1].strip("[]"), int(match[2])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _address(value: object) -> str:
    split_address(_text(value))
    return _text(value)


def _matching(pattern: re.Pattern[str], *, empty: bool = False) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = _text(value)
        if not (pattern.fullmatch(text) or (empty and not text)):
            raise ValueError
        return text

    return parse


def _secret(length_min: int) -> Kind:
    def parse(value: object) -> str:
        text = _text(value)
        if len(text) < length_min or text != text.strip() or text.startswith(PLACEHOLDER):
            raise ValueError
        return text

    allowed = f"at least {length_min} characters, no blanks around them, and not the text of the example"
    return Kind(allowed, parse, lambda value: "(set)" if value else "(not set)", secret=True)


def _folder(value: object) -> Path:
    text = _text(value)
    if not text.strip():
        raise ValueError
    return Path(text).expanduser()


def _urls(value: object) -> tuple[str, ...]:
    """A list, or text with blanks or commas between; each without a slash at its end."""
    found = value if isinstance(value, list) else _text(value).replace(",", " ").split()
    urls = tuple(_text(url).rstrip("/") for url in found)
    if (not urls and value != []) or len(set(urls)) < len(urls):
        raise ValueError
    for url in urls:
        scheme, _, address = url.partition("://")
        if scheme not in ("http", "https"):
            raise ValueError
        split_address(address)
    return urls


def _webhook(value: object) -> str:
    url = _text(value)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # `port` raises ValueError, too
        raise ValueError
    if parts.fragment or "@" in parts.netloc or not url.isprintable() or " " in url:
        raise ValueError
    return url


def _code(value: object) -> ErasureCode:
    try:
        return ErasureCode.parse(_text(value))
    except InvalidRequest as error:
        raise ValueError(str(error)) from error


def _size_or(word: str) -> Kind:
    return Kind(
        f'a size such as "10GiB" or "500MB", or "{word}"',
        lambda value: 0 if value == word else parse_size(value),
        lambda value: show_size(value) if value else word,
    )


def count(low: int, high: int) -> Kind:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        found = int(value)
        if not low <= found <= high:
            raise ValueError
        return found

    return Kind(f"a whole number from {low} to {high}", parse)


def seconds(low: float) -> Kind:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        found = float(value)
        if not low <= found <= 31_536_000:
            raise ValueError
        return found

    return Kind(f"a number of seconds, at least {low:g}", parse, lambda value: f"{value:g}")


def one_of(*words: str) -> Kind:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError
        return _text(value)

    return Kind(f"one of {', '.join(words)}", parse)


_NAME_RULE = "1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"

NAME = Kind(_NAME_RULE, _matching(_NAME))
OPTIONAL_NAME = Kind(f"empty, or {_NAME_RULE}", _matching(_NAME, empty=True))
CLUSTER_ID = Kind("empty, or the 32 hex digits of a cluster's id", _matching(_CLUSTER_ID, empty=True))
DOMAIN = Kind('empty, or a domain such as "s3.example.com"', _matching(_DOMAIN, empty=True))
ADDRESS = Kind('HOST:PORT such as "10.0.0.5:7700" or "[::1]:7700"; port 0 = any free one', _address)
OPTIONAL_ADDRESS = Kind(f"empty, or {ADDRESS.allowed}", lambda value: _address(value) if value else "")
CODE = Kind('k+m such as "4+2", k and m at least 1 and together at most 32', _code)
FOLDER = Kind("the path of a folder", _folder, lambda value: str(value or ""))
FILE = Kind("the path of a file", _folder, lambda value: str(value or ""))
URLS = Kind('different URLs such as ["https://10.0.0.5:2379", "https://10.0.0.6:2379"]', _urls, " ".join)
SIZE = Kind('a size such as "10GiB" or "500MB"', parse_size, show_size)
CAPACITY = _size_or("auto")
BANDWIDTH = Kind(
    'a size such as "50MiB", "auto" or "unlimited"',
    lambda value: value if value in ("auto", "unlimited") else parse_rate(value),
    lambda value: value if isinstance(value, str) else show_size(value),
)
SCRUB = _size_or("off")
WEBHOOK = Kind("an http:// or https:// URL without a user", _webhook)
CLUSTER_SECRET = _secret(16)
S3_SECRET = _secret(8)
METRICS_TOKEN = _secret(16)
KEY_RING = Kind(
    "id:KEY, or several with blanks between, KEY being 32 random bytes in base64; the first one encrypts",
    lambda value: parse_keys(_text(value)),
    lambda value: "(set)" if value else "(not set)",
    secret=True,
)
PASSWORD = _secret(1)
WEBHOOK_SECRET = _secret(8)

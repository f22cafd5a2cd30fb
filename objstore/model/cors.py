"""Which web pages of other origins may ask a bucket for what."""

from __future__ import annotations

import msgspec


class CorsRule(msgspec.Struct, frozen=True, array_like=True):
    """Patterns have at most one `*`, which stands for any characters."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()  # patterns; what a request may send
    exposed: tuple[str, ...] = ()  # what the page may see of an answer
    max_age_s: int | None = None  # how long a browser may remember the answer to its preflight
    id: str = ""


class BucketCors(msgspec.Struct, frozen=True, array_like=True):
    rules: tuple[CorsRule, ...] = ()

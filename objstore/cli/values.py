"""Values on command lines, as people write them: durations, rates. For `type=` of argparse."""

from __future__ import annotations

import argparse
import re

from objstore.config.kinds import parse_size

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def duration(text: str) -> float:
    """ "90s", "4h", "1h30m" -> seconds."""
    parts = _PART.findall(text)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no duration: write one such as "90s", "30m", "4h" or "2d"')
    return seconds


def rate(text: str) -> int:
    """ "50MiB/s" -> bytes per second."""
    try:
        found = parse_size(text.removesuffix("/s"))
    except ValueError:
        found = 0
    if found <= 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no rate: write one such as "50MiB/s" or "500kB"')
    return found

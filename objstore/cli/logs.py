"""`objstore logs`: the log lines of all processes of a cluster of `objstore up` in order of time, or of one request.

Of any other cluster: lines from stdin, however its machines collect them (`journalctl -o cat | objstore logs -`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from objstore.cli.env import add_data_flag
from objstore.local.folder import locate
from objstore.model.errors import InvalidRequest

LEVELS = ("debug", "info", "warning", "error", "critical")
_SHOWN = ("ts", "level", "node", "event", "logger")  # in their own places; the rest follows as key=value


def configure(parser: argparse.ArgumentParser) -> None:
    add_data_flag(parser)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of these processes only; - reads stdin instead")
    parser.add_argument("--request", metavar="ID", help="only what was written for this request (x-amz-request-id)")
    parser.add_argument("--level", choices=LEVELS, default="debug", help="only from this level on")
    parser.add_argument("--lines", type=int, metavar="N", help="only the last N (default: 50; of a request: all)")
    parser.add_argument("--json", action="store_true", help="the lines as they are")


def run(arguments: argparse.Namespace) -> int:
    if arguments.lines is not None and arguments.lines < 1:
        raise InvalidRequest("--lines takes a number from 1 on")
    found = sorted(_chosen(_read(arguments), arguments), key=lambda line: str(line.get("ts", "")))
    count = arguments.lines or (len(found) if arguments.request else 50)
    for line in found[-count:] if count else []:
        print(msgspec.json.encode(line).decode() if arguments.json else as_text(line))
    if arguments.request and not found:
        print(f"no line about request {arguments.request}; logs of level warning leave requests out", file=sys.stderr)
        return 1
    return 0


def as_text(line: dict[str, Any]) -> str:
    rest = "".join(f"  {key}={value}" for key, value in line.items() if key not in _SHOWN and key != "traceback")
    text = (
        f"{line.get('ts', ''):<24} {line.get('level', ''):<8} {line.get('node', ''):<4} {line.get('event', '')}{rest}"
    )
    return f"{text}\n{line['traceback']}" if "traceback" in line else text


def _read(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if arguments.names == ["-"]:
        yield from _parsed(sys.stdin.buffer)
        return
    folder = locate(arguments.data).logs
    known = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if unknown := [name for name in arguments.names if name not in known]:
        raise InvalidRequest(f"there is no log of {unknown[0]!r} in {folder}; there are {' '.join(known) or 'none'}")
    for name in arguments.names or known:
        yield from _of_file(known[name])


def _of_file(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        yield from _parsed(lines)


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """What is no JSON object (a traceback of the interpreter, say) is left out."""
    for raw in lines:
        try:
            yield msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.MsgspecError:
            continue


def _chosen(lines: Iterable[dict[str, Any]], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    levels = LEVELS[LEVELS.index(arguments.level) :]
    for line in lines:
        if arguments.request and str(line.get("request_id", "")).upper() != arguments.request.upper():
            continue
        if line.get("level", "critical") in levels:
            yield line

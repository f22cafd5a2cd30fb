"""Log lines on stderr: text on a terminal, else one JSON object per line.

A busy process writes many lines with one system call: one that only informs, and comes within a moment after others
were written, waits for the rest of it. A warning or worse is written at once, with those that wait.

Fields: ts (UTC), level, event (the sentence), node (the process by name), logger, request_id where there is one,
and whatever the caller gave as `extra`. stdout is never written: it belongs to data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

import msgspec

from objstore.model.context import FIELDS, current_request

PAUSE_S = 0.02  # between two writes of lines that inform
_SECOND = "%Y-%m-%dT%H:%M:%S"
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(format: str, level: str, node: str, stream: TextIO | None = None) -> None:
    """Replaces whatever logging was configured before. format: auto, text or json."""
    stream = stream or sys.stderr
    as_text = format == "text" or (format == "auto" and stream.isatty())
    handler = Lines(stream)
    handler.setFormatter(TextFormatter(node) if as_text else JsonFormatter(node))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    _leave_out_what_is_not_shown()


def _leave_out_what_is_not_shown() -> None:
    """Half of the cost of a line is to find out who wrote it, and in which thread ("Optimization" in the documentation
    of logging)."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    vars(logging)["logAsyncioTasks"] = False  # since Python 3.12


class Lines(logging.Handler):
    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: list[str] = []
        self._written_at = float("-inf")  # by the clock of the loop

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.append(self.format(record))
        except Exception:  # noqa: BLE001  as every handler of logging does: what logs must not fail by it
            self.handleError(record)
            return
        loop = asyncio._get_running_loop()
        if loop is None or record.levelno >= logging.WARNING or loop.time() - self._written_at >= PAUSE_S:
            self.flush()
        elif len(self._waiting) == 1:
            loop.call_later(PAUSE_S, self.flush)

    def flush(self) -> None:
        """Also called when the process ends."""
        with self.lock or contextlib.nullcontext():
            lines, self._waiting = self._waiting, []
            if (loop := asyncio._get_running_loop()) is not None:
                self._written_at = loop.time()
            if lines:
                with contextlib.suppress(OSError, ValueError):  # a full disk, a closed terminal: nobody left to tell
                    self._stream.write("\n".join(lines) + "\n")
                    self._stream.flush()


def flush() -> None:
    """Write what waits: this process may be killed from now on, and this much is to be known of it."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class JsonFormatter(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": f"{_utc_second(int(record.created))}.{int(record.created * 1000) % 1000:03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "node": self._node,
            "logger": record.name,
            **_extra(record),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        try:
            return _encode(fields).decode()
        except UnicodeEncodeError:  # a path that is no UTF-8
            return _encode({key: _printable(value) for key, value in fields.items()}).decode()


class TextFormatter(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = "".join(f"  {key}={value}" for key, value in _extra(record).items())
        line = f"{when} {record.levelname.lower():<8} {self._node}  {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _printable(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


@lru_cache(maxsize=1)
def _utc_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_SECOND)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    """What the caller added, and the request that it worked for; empty values say nothing and are left out."""
    added = vars(record).get(FIELDS)
    if added is None:
        added = {key: value for key, value in vars(record).items() if key not in _OWN}
    found = {key: value for key, value in added.items() if value is not None and value != ""}
    if "request_id" not in found and (request_id := current_request()):
        found["request_id"] = request_id
    return found

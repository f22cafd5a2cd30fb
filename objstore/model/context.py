"""Which request the running code works for. Only for log lines: nothing is decided by it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Mark:
    """Emptied when the request has been answered: what it started may go on for others, as connections to nodes do."""

    request_id: str


_MARK: ContextVar[Mark | None] = ContextVar("request", default=None)


def begin_request(request_id: str) -> Mark:
    """From now on this task, and those that it starts, work for this request."""
    mark = Mark(request_id)
    _MARK.set(mark)
    return mark


def current_request() -> str:
    """Its id, or ""."""
    mark = _MARK.get()
    return mark.request_id if mark is not None else ""

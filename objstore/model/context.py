"""Which request the running code works for. For log lines, and for what an event says of who asked: nothing is decided
by it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from objstore.model.notification import Origin

FIELDS: Final = "fields"
"""`extra` of a log record under this name: a dict of all that its line says beside the sentence. Cheaper than one
attribute for each."""


@dataclass(slots=True)
class Mark:
    """Emptied when the request has been answered: what it started may go on for others, as connections to nodes do."""

    request_id: str
    source: str = ""  # the address of the client
    principal: Callable[[], str] = str  # the access key that has signed; "" until it is known


_MARK: ContextVar[Mark | None] = ContextVar("request", default=None)


def begin_request(request_id: str, source: str = "", principal: Callable[[], str] = str) -> Mark:
    """From now on this task, and those that it starts, work for this request."""
    mark = Mark(request_id, source, principal)
    _MARK.set(mark)
    return mark


def current_request() -> str:
    """Its id, or ""."""
    mark = _MARK.get()
    return mark.request_id if mark is not None else ""


def current_origin() -> Origin:
    mark = _MARK.get()
    return Origin(mark.source, mark.principal(), mark.request_id) if mark is not None else Origin()

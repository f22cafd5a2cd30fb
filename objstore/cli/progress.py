"""How the start of a cluster looks: rows that change in place on a terminal, one line per transition elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from objstore.local.folder import MemberState

ROLES = ("coordinator", "node", "repairer", "gateway")


def is_terminal(stream: TextIO) -> bool:
    """Whether escape codes make sense there."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


class StartProgress:
    """A `Report` while the members start. `finish` leaves the rows as they are."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._in_place = is_terminal(stream)
        self._began = time.monotonic()
        self._members: dict[str, tuple[MemberState, str]] = {}
        self._rows_shown = 0
        self._seconds: dict[str, float] = {}  # until the last member of a role was ready

    def __call__(self, member: MemberState, text: str) -> None:
        self._members[member.name] = member, text
        if member.condition == "ready":
            self._seconds[member.role] = time.monotonic() - self._began
        if self._in_place:
            self._draw()
        elif member.condition != "starting":
            print(f"  {member.role:<12} {member.name:<4} {text}", file=self._stream, flush=True)

    def _draw(self) -> None:
        rows = [row for role in ROLES if (row := self._row(role))]
        up = f"\x1b[{self._rows_shown}A" if self._rows_shown else ""
        self._stream.write(up + "".join(f"\x1b[2K{row}\n" for row in rows))
        self._stream.flush()
        self._rows_shown = len(rows)

    def _row(self, role: str) -> str:
        members = [member for member, _ in self._members.values() if member.role == role]
        if not members:
            return ""
        names = members[0].name + (f"…{members[-1].name}" if len(members) > 1 else "")
        ready = [member for member in members if member.condition == "ready"]
        if len(ready) < len(members):
            return f"  {role:<12} {names:<8} starting   {len(ready)} of {len(members)}"
        where = members[0].address if len(members) == 1 else f"{len(members)} processes"
        return f"  {role:<12} {names:<8} ready      {self._seconds[role]:.1f} s   {where}"

"""`objstore watch`: the status, live. Leaving it (q, Ctrl-C) changes nothing: repair goes on by itself.

On a terminal a screen, elsewhere a line on every change and every few seconds, with --json one status per line.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator

from objstore.admin import text
from objstore.admin.status import Status, to_json
from objstore.cli.main import EXIT_TIMED_OUT
from objstore.cli.progress import is_terminal
from objstore.cli.status import Source, add_source_flags
from objstore.model.errors import InvalidRequest
from objstore.model.survey import Receipt

_FRAME_S = 0.35
_LINE_S = 1.0
_LINE_ANYWAY_S = 10.0

_GOALS: dict[str, Callable[[Status], bool]] = {
    "healthy": lambda status: status.verdict == "HEALTHY",
    "whole": lambda status: status.is_whole,
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code with --until: 0 when it has come true, 5 when --timeout passed before."
    add_source_flags(parser)
    parser.add_argument("--json", action="store_true", help="one status a second as a line of JSON")
    parser.add_argument(
        "--until",
        choices=list(_GOALS),
        help="end when all is well (healthy), or when every object is at full redundancy, gone nodes or not (whole)",
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="with --until: give up after this")


def run(arguments: argparse.Namespace) -> int:
    if arguments.timeout is not None and not arguments.until:
        raise InvalidRequest("--timeout needs --until: without a goal there is nothing to wait for")
    source = Source(arguments)
    goal = _GOALS[arguments.until] if arguments.until else _never
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    if arguments.json:
        show = _show_json
    elif is_terminal(sys.stdout):
        show = _show_screen
    else:
        show = _show_lines
    try:
        reached = show(source, goal, deadline)
    except KeyboardInterrupt:
        reached = None
    if reached is None:
        _say_goodbye(arguments)
        return 0
    return 0 if reached else EXIT_TIMED_OUT


def _never(status: Status) -> bool:
    return False


def _say_goodbye(arguments: argparse.Namespace) -> None:
    if not arguments.json:
        print("repair, if any, goes on without this screen", file=sys.stderr)


# Each of these: True = the goal is reached, False = too late, None = the person has had enough.


def _show_json(source: Source, goal: Callable[[Status], bool], deadline: float | None) -> bool | None:
    while True:
        status = source.status()
        print(to_json(status).decode(), flush=True)
        if (end := _end(status, goal, deadline)) is not None:
            return end
        time.sleep(_LINE_S)


def _show_lines(source: Source, goal: Callable[[Status], bool], deadline: float | None) -> bool | None:
    last: tuple[object, ...] = ()
    said_at = 0.0
    receipts: list[Receipt] | None = None
    while True:
        status = source.status()
        for receipt in new_receipts(receipts, status):
            print(f"{time.strftime('%H:%M:%S')} {text.receipt_line(receipt)}", flush=True)
        receipts = status.receipts or receipts
        state = status.repair.state if status.repair else ""
        now = (status.verdict, status.can_lose, state, [reason.code for reason in status.reasons])
        if now != last or time.monotonic() - said_at > _LINE_ANYWAY_S:
            print(line(status), flush=True)
            last, said_at = now, time.monotonic()
        if (end := _end(status, goal, deadline)) is not None:
            return end
        time.sleep(_FRAME_S)


def new_receipts(before: list[Receipt] | None, status: Status) -> list[Receipt]:
    """Repairs that have finished since the status with those before; none at first."""
    return [] if before is None else [receipt for receipt in status.receipts if receipt not in before]


def line(status: Status) -> str:
    """The status in one line, with the time."""
    parts = [f"{time.strftime('%H:%M:%S')} {text.headline(status)}", text.objects_line(status)]
    if status.repair and status.repair.state != "idle":
        parts.append(f"{status.repair.kind} {text.repair_line(status.repair)}")
    return " · ".join(parts)


def _show_screen(source: Source, goal: Callable[[Status], bool], deadline: float | None) -> bool | None:
    from rich.console import Console
    from rich.live import Live

    from objstore.admin import screen

    console = Console()
    baseline = status = source.status()
    first = screen.render(status, width=console.width)
    with _keys() as pressed, Live(first, console=console, auto_refresh=False, transient=False) as live:
        receipts = status.receipts
        while True:
            for receipt in new_receipts(receipts, status):
                live.console.print(text.receipt_line(receipt))
            receipts = status.receipts or receipts
            if (end := _end(status, goal, deadline)) is not None:
                return end
            if pressed(_FRAME_S) in ("q", "Q", "\x1b"):
                return None
            status = source.status()
            live.update(screen.render(status, baseline=baseline, width=console.width), refresh=True)


def _end(status: Status, goal: Callable[[Status], bool], deadline: float | None) -> bool | None:
    if goal(status):
        return True
    return False if deadline is not None and time.monotonic() > deadline else None


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so long for a key; "" if none came. The terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([fd], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)

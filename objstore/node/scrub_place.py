"""How far the scrub of a node got: a small file in the data folder, replaced whole.

Not in the index, because it is to outlive it: a node that lost its index goes on where it was. A file that is lost or
cannot be read costs one round that begins anew.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from objstore.model.scrubbing import ScrubFound, ScrubMode, ScrubRound
from objstore.ports import Disk

logger = logging.getLogger(__name__)

FILE = "scrub.json"
FORMAT = 1


class Aside(msgspec.Struct, frozen=True):
    """A full round that a quick one was put before."""

    source: int
    at: str
    started_ms: int
    done_bytes: int
    found: ScrubFound


class Place(msgspec.Struct, frozen=True):
    """`started_ms` 0: no round is under way. `asked`: the last request for a round that was begun; `answers`: the
    request that the present round answers, 0 = none; `obeyed`: the last one whose round is complete."""

    format: int = FORMAT
    since_ms: int = 0
    source: int = 0
    at: str = ""  # hex
    mode: ScrubMode = "full"
    started_ms: int = 0
    done_bytes: int = 0
    found: ScrubFound = ScrubFound()
    found_ever: ScrubFound = ScrubFound()
    last: ScrubRound = ScrubRound()
    asked: int = 0
    answers: int = 0
    obeyed: int = 0
    aside: Aside | None = None

    @property
    def cursor(self) -> bytes:
        return bytes.fromhex(self.at)

    def at_source(self, number: int) -> Place:
        return msgspec.structs.replace(self, source=number, at="")

    def after(self, at: bytes, read: int, found: ScrubFound) -> Place:
        return msgspec.structs.replace(
            self,
            at=at.hex(),
            done_bytes=self.done_bytes + read,
            found=self.found.plus(found),
            found_ever=self.found_ever.plus(found),
        )


def begun(place: Place, now_ms: int, mode: ScrubMode, asked: int) -> Place:
    """A new round. `asked`: the request that it answers, 0 = it was time."""
    aside = place.aside
    if mode == "full":
        aside = None
    elif place.started_ms and place.mode == "full":
        aside = Aside(place.source, place.at, place.started_ms, place.done_bytes, place.found)
    return msgspec.structs.replace(
        place,
        source=0,
        at="",
        mode=mode,
        started_ms=now_ms,
        done_bytes=0,
        found=ScrubFound(),
        asked=asked or place.asked,
        answers=asked,
        aside=aside,
    )


def completed(place: Place, now_ms: int) -> Place:
    last = place.last
    if place.mode == "full":
        last = ScrubRound(place.started_ms, now_ms, place.done_bytes, place.found)
    return msgspec.structs.replace(
        place, source=0, at="", started_ms=0, last=last, answers=0, obeyed=place.answers or place.obeyed
    )


def resumed(place: Place) -> Place:
    """Back to the round that was put aside, if there is one."""
    if place.aside is None:
        return place
    aside = place.aside
    return msgspec.structs.replace(
        place,
        source=aside.source,
        at=aside.at,
        mode="full",
        started_ms=aside.started_ms,
        done_bytes=aside.done_bytes,
        found=aside.found,
        aside=None,
    )


class Places:
    """The file."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def load(self, now_ms: int) -> Place:
        """What was written last; a first one, `since_ms` now, where there is none."""
        return await asyncio.get_running_loop().run_in_executor(None, self._load, now_ms)

    def _load(self, now_ms: int) -> Place:
        if self._disk.exists(FILE):
            try:
                found = msgspec.json.decode(self._disk.read_file(FILE), type=Place)
                bytes.fromhex(found.at)
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                logger.error("%s cannot be read (%s): the scrub begins anew", FILE, error)
            else:
                if found.format == FORMAT:
                    return found
                logger.warning("%s has format %d; the scrub begins anew", FILE, found.format)
        return Place(since_ms=now_ms)

    async def save(self, place: Place) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.save_now, place)

    def save_now(self, place: Place) -> None:
        """Blocking."""
        self._disk.write_file(FILE, msgspec.json.encode(place))

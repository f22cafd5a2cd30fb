"""Clients that write, read, list and delete through all gateways while harm is done, and the judgement of all answers.

Nothing is retried. An answer counts as what it says; a 503, a broken connection or one given up leaves the outcome of
a write open. What must never be: wrong bytes, a history that no single object could have had, an answer that is no
answer to the request, a request without an end.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf
from types import TracebackType

from objstore.testing.s3client import Answer, S3Client
from tests.process.outages import Outages
from tests.sim.linearize import Op, check

HANG_S = 20.0  # a write may look for stand-ins, commit and confirm: 5 s each at the worst, and this machine is busy
GIVE_UP_S = 2.0  # on a gateway that is known to be away
AVOID_S = 1.0  # a gateway that just failed
OPS_PER_KEY = 50  # then its slot goes on under another key: a history stays short enough to be judged
SIZES = (0, 1, 700, 20_000, 32_768, 32_769, 60_000, 150_000, 400_000, 1_100_000)
PAUSE_S = 0.04
WEIGHTS = {
    "put": 26, "create": 9, "replace": 4, "swap": 14, "delete": 7, "delete_same": 4, "multipart": 3, "once": 8,
    "get": 20, "range": 7, "list": 5,
}  # fmt: skip

Failure = (OSError, http.client.HTTPException)


class Load:
    """Use it in a `with`; afterwards `read_all` and `judge`."""

    def __init__(
        self,
        gateways: Mapping[str, S3Client],
        outages: Outages,
        *,
        seed: object = 0,
        workers: int = 5,
        slots: int = 5,
        bucket: str = "history",
        enter: Callable[[], None] | None = None,
    ) -> None:
        """`enter`: called first in every thread (to move it into a network namespace)."""
        self._gateways = dict(gateways)
        self._outages = outages
        self._seed = seed
        self._slots = slots
        self._bucket = bucket
        self._enter = enter
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(f"{seed}/{i}"),), daemon=True)
            for i in range(workers)
        ]
        self._turns = 0
        self._avoid: dict[str, float] = {}
        self._bodies: dict[str, tuple[str, int]] = {}  # by ETag: (name, size), from which the bytes follow
        self.history: dict[str, list[Op]] = {}
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.refusals: list[str] = []  # every 503 of a gateway that was not disturbed
        self.slowest = (0.0, "")  # of the requests that nothing excuses

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * HANG_S)
            if thread.is_alive():
                self._found(f"{thread.name} hangs")

    @property
    def acknowledged(self) -> int:
        """Writes that were answered with success."""
        return self.counts["write ok"]

    def wait_acknowledged(self, more: int, timeout_s: float) -> bool:
        """Until that many more writes have succeeded."""
        wanted = self.acknowledged + more
        deadline = time.monotonic() + timeout_s
        while self.acknowledged < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.acknowledged >= wanted

    # --- the clients ---

    def _work(self, chance: random.Random) -> None:
        if self._enter is not None:
            self._enter()
        actions = {name: getattr(self, f"_{name}") for name in WEIGHTS}
        try:
            while not self._stop.wait(chance.uniform(0, PAUSE_S)):
                action = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
                actions[action](chance, self._choose(chance))
        except BaseException as error:
            self._found(f"a client ended: {error!r}")
            raise

    def _choose(self, chance: random.Random) -> str:
        now = time.monotonic()
        names = [name for name in self._gateways if self._avoid.get(name, 0.0) < now]
        return chance.choice(names or list(self._gateways))

    def _key(self, chance: random.Random) -> str:
        with self._lock:
            self._turns += 1
            return f"k{chance.randrange(self._slots)}/{self._turns // (OPS_PER_KEY * self._slots)}"

    def _put(self, chance: random.Random, gateway: str) -> None:
        self._write(chance, gateway, self._key(chance), "")

    def _create(self, chance: random.Random, gateway: str) -> None:
        self._write(chance, gateway, self._key(chance), "absent")

    def _replace(self, chance: random.Random, gateway: str) -> None:
        self._write(chance, gateway, self._key(chance), "present")

    def _once(self, chance: random.Random, gateway: str) -> None:
        """A key that nobody ever writes again: what was acknowledged must be there at the end."""
        with self._lock:
            self._turns += 1
            key = f"once/{self._turns}"
        self._write(chance, gateway, key, "")

    def _swap(self, chance: random.Random, gateway: str) -> None:
        """Compare and swap, against what was just read; perhaps through another gateway."""
        key = self._key(chance)
        found = self._read(gateway, key)
        if found:
            self._write(chance, self._choose(chance), key, found)

    def _write(self, chance: random.Random, gateway: str, key: str, condition: str) -> None:
        name, size = f"{self._seed}/{key}/{chance.random()}", chance.choice(SIZES)
        data = content(name, size)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self._bodies[etag] = (name, size)
        self._send_write(gateway, "PUT", key, etag, condition, body=data)

    def _multipart(self, chance: random.Random, gateway: str) -> None:
        key, condition = self._key(chance), chance.choice(("", "absent"))
        created = self._request(gateway, "POST", key, {"uploads": ""})
        if created is None or not self._expect(created, (200,), f"create upload of {key}"):
            return
        upload = created.find("UploadId")
        name, size = f"{self._seed}/{key}/{chance.random()}", chance.choice(SIZES[1:])
        data = content(name, size)
        query = {"partNumber": "1", "uploadId": upload}
        part = self._request(self._choose(chance), "PUT", key, query, body=data)
        if part is None or not self._expect(part, (200,), f"part of {key}"):
            return
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        etag = hashlib.md5(digest, usedforsecurity=False).hexdigest() + "-1"
        self._bodies[etag] = (name, size)
        text = f"<Part><PartNumber>1</PartNumber><ETag>{digest.hex()}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{text}</CompleteMultipartUpload>".encode()
        self._send_write(self._choose(chance), "POST", key, etag, condition, {"uploadId": upload}, body)

    def _delete(self, chance: random.Random, gateway: str) -> None:
        self._send_write(gateway, "DELETE", self._key(chance), None, "")

    def _delete_same(self, chance: random.Random, gateway: str) -> None:
        key = self._key(chance)
        found = self._read(gateway, key)
        if found:
            self._send_write(self._choose(chance), "DELETE", key, None, found)

    def _get(self, chance: random.Random, gateway: str) -> None:
        self._read(gateway, self._key(chance))

    def _range(self, chance: random.Random, gateway: str) -> None:
        first = chance.choice((0, 1, 10_000, 262_143, 262_144, 500_000))
        self._read(gateway, self._key(chance), (first, first + chance.choice((0, 99, 70_000, 600_000))))

    def _list(self, chance: random.Random, gateway: str) -> None:
        self._list_slot(gateway, chance.randrange(self._slots))

    def _list_slot(self, gateway: str, slot: int) -> None:
        prefix = f"k{slot}/"
        start = time.monotonic()
        with self._lock:  # keys first written after this look may or may not be there
            known = [key for key in self.history if key.startswith(prefix)]
        answer = self._request(gateway, "GET", "", {"list-type": "2", "prefix": prefix})
        if answer is None or not self._expect(answer, (200,), f"list {prefix}"):
            return
        listed = dict(re.findall(r"<Key>(.*?)</Key>.*?<ETag>&quot;(.*?)&quot;</ETag>", answer.body.decode()))
        if strangers := set(listed.values()) - set(self._bodies):
            self._found(f"list {prefix} through {gateway}: ETags {strangers}, which nobody ever wrote")
        for key in known:
            self._record(key, Op("read", start, time.monotonic(), listed.get(key)))

    # --- one request and what it means ---

    def _send_write(
        self,
        gateway: str,
        method: str,
        key: str,
        value: str | None,
        condition: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        headers = {"": {}, "absent": {"If-None-Match": "*"}, "present": {"If-Match": "*"}}.get(
            condition, {"If-Match": f'"{condition}"'}
        )
        start = time.monotonic()
        answer = self._request(gateway, method, key, query, body, headers)
        end = time.monotonic()
        meaning = _meaning(answer, condition)
        self._count(f"write {meaning}")
        if meaning == "wrong":
            self._found(f"{method} {key} if {condition or 'anything'} through {gateway}: {answer}")
        else:
            until = inf if meaning == "unknown" else end
            self._record(key, Op("write", start, until, value, condition, ok=meaning != "refused"))

    def _read(self, gateway: str, key: str, span: tuple[int, int] | None = None) -> str | None:
        """The ETag; None: nothing there; "" not known."""
        headers = {"Range": f"bytes={span[0]}-{span[1]}"} if span else {}
        start = time.monotonic()
        answer = self._request(gateway, "GET", key, headers=headers)
        end = time.monotonic()
        if answer is None or not self._expect(answer, (200, 206, 404, 416), f"GET {key}"):
            return ""
        if answer.status == 416:
            return ""
        if answer.status == 404:
            if answer.code != "NoSuchKey":
                self._found(f"GET {key}: {answer.code}")
            self._record(key, Op("read", start, end, None))
            return None
        etag = answer.headers["ETag"].strip('"')
        self._record(key, Op("read", start, end, etag))
        body = self._bodies.get(etag)
        if body is None:
            self._found(f"GET {key} through {gateway}: ETag {etag}, which nobody ever wrote")
        elif answer.body != (
            content(*body)[span[0] : span[1] + 1] if span and answer.status == 206 else content(*body)
        ):
            self._found(f"GET {key} {span or ''} through {gateway}: wrong bytes for ETag {etag}")
        else:
            self._count("read ok")
        return etag

    def _request(
        self,
        gateway: str,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """None: no answer, for a reason that excuses it or has been noted as wrong."""
        path = f"/{self._bucket}/{key}" if key else f"/{self._bucket}"
        timeout_s = GIVE_UP_S if self._outages.is_out(gateway) else HANG_S
        start = time.monotonic()
        try:
            answer = self._gateways[gateway].request(method, path, query, body, headers, timeout_s=timeout_s)
        except Failure as error:
            end = time.monotonic()
            self._avoid[gateway] = end + AVOID_S
            excused = self._outages.touches(gateway, start, end)
            cut = isinstance(error, http.client.IncompleteRead)  # the way to say that a body cannot be finished
            self._count("cut" if cut else "no answer" if excused else "unexcused")
            if isinstance(error, ConnectionRefusedError):
                self._stop.wait(AVOID_S / 5)  # with no gateway left there is nothing to do but to knock now and then
            if not excused and not cut:
                self._found(f"{method} {path} through {gateway}: {error!r} after {end - start:.1f} s, unexcused")
            return None
        took = time.monotonic() - start
        excused = self._outages.touches(gateway, start, start + took)
        self._count(f"{answer.status} excused" if answer.status == 503 and excused else str(answer.status))
        if answer.status == 503 and not excused:
            self.refusals.append(f"{start:.1f} +{took:.2f} {method} {path} {gateway}: {answer.find('Message')}")
        if took > self.slowest[0] and not excused:
            self.slowest = (took, f"{method} {path} -> {answer.status}")
        return answer

    def _expect(self, answer: Answer, statuses: tuple[int, ...], what: str) -> bool:
        """Whether the answer is one of those; 503 is none, but nothing wrong either."""
        if answer.status in statuses:
            return True
        if answer.status != 503:
            self._found(f"{what}: {answer.status} {answer.code} {answer.body[:300]!r}")
        return False

    def _record(self, key: str, op: Op) -> None:
        with self._lock:
            self.history.setdefault(key, []).append(op)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _found(self, what: str) -> None:
        with self._lock:
            self.wrong.append(f"{time.strftime('%H:%M:%S')} {what}")

    # --- afterwards ---

    def read_all(self, *, patience_s: float = 60.0) -> None:
        """Everything, through every gateway, by GET and list, once all is well: now an answer is due."""
        deadline = time.monotonic() + patience_s
        for gateway in self._gateways:
            for slot in range(self._slots):
                self._list_slot(gateway, slot)
            for key in sorted(self.history):
                while self._read(gateway, key) == "" and not self.wrong:
                    if time.monotonic() > deadline:
                        self._found(f"{key} cannot be read through {gateway} within {patience_s:.0f} s")
                        return
                    time.sleep(0.1)

    def judge(self) -> list[str]:
        """What is wrong with all that was seen; [] if nothing is."""
        out = list(self.wrong)
        for key, ops in sorted(self.history.items()):
            if not check(ops):
                lines = "\n".join(f"  {op}" for op in sorted(ops, key=lambda op: op.start))
                out.append(f"no single object could have had the history of {key}:\n{lines}")
        return out

    def summary(self) -> str:
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return f"{len(self.history)} keys; {counted}; slowest unexcused {self.slowest[0]:.2f} s ({self.slowest[1]})"


def content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def _meaning(answer: Answer | None, condition: str) -> str:
    """Of the answer to a write. An error may also be in the body of a 200: a completion sends that at once."""
    if answer is None or answer.code in ("ServiceUnavailable", "SlowDown"):
        return "unknown"
    if condition and answer.code in ("PreconditionFailed", "NoSuchKey"):
        return "refused"
    return "ok" if answer.status in (200, 204) and not answer.code else "wrong"

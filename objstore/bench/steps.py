"""What one process of the load asks next, and whether what comes back is right. Knows no sockets and no time."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterable

import xxhash

from objstore.bench.connection import Answer
from objstore.bench.content import Content
from objstore.bench.model import READS, Job
from objstore.bench.presign import Signer

MIXED = {"get": 45, "head": 30, "put": 15, "delete": 10}  # of 100
JOINED_BYTES_MAX = 64 * 1024  # of a body that goes out together with its head
REMEMBERED = 100_000


def key_of(process: int, number: int) -> str:
    return f"{process:02d}/{number:09d}"


class Request:
    """One operation, to be asked as often as is needed."""

    __slots__ = ("bodyless", "head", "keep", "key", "number", "operation", "pieces", "sink", "size")

    def __init__(self, operation: str, number: int, key: str, head: bytes) -> None:
        self.operation, self.number, self.key, self.head = operation, number, key, head
        self.size = 0  # bytes of an object that are sent
        self.pieces: Callable[[], Iterable[bytes | memoryview]] = tuple  # of the body
        self.sink: xxhash.xxh3_128 | None = None
        self.keep = self.bodyless = False


class Steps:
    """Of one job. `now`: "20260131T235959Z"."""

    def __init__(self, job: Job, now: str) -> None:
        self.job, self.phase = job, job.phase
        endpoint = job.endpoint
        self._content = Content(job.seed)
        self._signer = Signer(endpoint.access_key, endpoint.secret, endpoint.region, endpoint.authority, now)
        self._tail = f" HTTP/1.1\r\nHost: {endpoint.authority}\r\nUser-Agent: objstore-bench\r\n".encode()
        self._random = random.Random(f"{job.seed} {job.process} {job.phase.operation}")
        self._written = job.written[job.process] if job.process < len(job.written) else 0
        self._next = self._written
        self._again: list[int] = []  # numbers whose object could not be written
        self._unused = list(range(self._written))  # that nobody uses now; of a mixed load, where some are deleted
        self._uppers: list[int] = []  # how many objects there are up to each process
        for count in job.written:
            self._uppers.append(count + (self._uppers[-1] if self._uppers else 0))
        self._deleted = 0
        self._digests: dict[str, bytes] = {}
        self._heads: dict[tuple[str, str], bytes] = {}  # of reads: the same objects are read again and again
        self.verified = self.mismatches = self.keys = 0

    @property
    def written(self) -> int:
        """Objects of this process that exist."""
        return self._next

    def forget_counts(self) -> None:
        """Of what was done before the measured time. What was verified stays: wrong bytes are wrong at any time."""
        self.keys = 0

    def next(self) -> Request | None:
        """None: there is nothing left."""
        operation = self.phase.operation
        if operation == "mixed":
            operation = self._random.choices(list(MIXED), list(MIXED.values()))[0] if self._unused else "put"
            return self._request(operation, self._new() if operation == "put" else self._take())
        if operation == "delete":
            if self._deleted >= self._written:
                return None
            self._deleted += 1
            return self._request(operation, self._deleted - 1)
        if operation == "put":
            if self.job.objects and self._next - self._written >= self.job.objects and not self._again:
                return None
            return self._request(operation, self._new())
        return self._request("get" if operation in READS else operation, -1)

    def finish(self, request: Request, *, done: bool) -> None:
        if request.operation == "put" and not done:
            self._again.append(request.number)
        elif self.phase.operation == "mixed" and request.operation != "delete":
            self._unused.append(request.number)

    def take(self, request: Request, answer: Answer) -> int:
        """A good answer: how many bytes of objects it moved."""
        if request.operation == "put":
            return request.size
        if request.operation == "list":
            self.keys += answer.body.count(b"<Key>")
            return 0
        if request.operation == "get" and request.sink is not None:
            self.verified += 1
            right = self._digest(request.key, self.phase.size)
            if answer.size != self.phase.size or request.sink.digest() != right:
                self.mismatches += 1
        return answer.size

    # --- one operation ---

    def _request(self, operation: str, number: int) -> Request:
        """`number`: of our object, or -1: any of any process."""
        key = key_of(self.job.process, number) if number >= 0 else self._some()
        match operation:
            case "put":
                return self._put(number, key)
            case "get":
                found = Request(operation, number, key, self._read("GET", key))
                if self.phase.verify:
                    found.sink = xxhash.xxh3_128()
            case "range":
                size = self.phase.size
                length = self.phase.range_size or max(1, size // 8)
                start = self._random.randrange(max(1, size - length + 1))
                head = self._read("GET", key)[:-2] + b"Range: bytes=%d-%d\r\n\r\n" % (start, start + length - 1)
                found = Request(operation, number, key, head)
            case "head":
                found = Request(operation, number, key, self._read("HEAD", key))
                found.bodyless = True
            case "list":
                after = self.job.prefix + key
                query = (("list-type", "2"), ("max-keys", str(self.phase.keys)), ("start-after", after))
                found = Request(operation, number, key, self._head("GET", f"/{self.job.bucket}", query))
                found.keep = True
            case _:
                found = Request(operation, number, key, self._head("DELETE", self._path(key)))
        return found

    def _put(self, number: int, key: str) -> Request:
        size = self.phase.size
        head = self._head("PUT", self._path(key), more=b"Content-Length: %d\r\n" % size)
        if size <= JOINED_BYTES_MAX:
            found = Request("put", number, key, b"".join((head, *self._content.pieces(key, size))))
        else:
            found = Request("put", number, key, head)
            found.pieces = lambda: self._content.pieces(key, size)
        found.size = size
        return found

    def _path(self, key: str) -> str:
        return f"/{self.job.bucket}/{self.job.prefix}{key}"

    def _read(self, method: str, key: str) -> bytes:
        head = self._heads.get((method, key))
        if head is None:
            if len(self._heads) >= REMEMBERED:
                self._heads.clear()
            head = self._heads[method, key] = self._head(method, self._path(key))
        return head

    def _head(self, method: str, path: str, query: tuple[tuple[str, str], ...] = (), more: bytes = b"") -> bytes:
        target = self._signer.target(method, path, query)
        return b"".join((f"{method} {target}".encode(), self._tail, more, b"\r\n"))

    def _new(self) -> int:
        if self._again:
            return self._again.pop()
        self._next += 1
        return self._next - 1

    def _take(self) -> int:
        """For one connection alone: what another deletes meanwhile could not be read."""
        place = self._random.randrange(len(self._unused))
        self._unused[place], self._unused[-1] = self._unused[-1], self._unused[place]
        return self._unused.pop()

    def _some(self) -> str:
        """Any object of any process."""
        place = int(self._random.random() * self._uppers[-1])
        process = bisect.bisect_right(self._uppers, place)
        return key_of(process, place - (self._uppers[process - 1] if process else 0))

    def _digest(self, key: str, size: int) -> bytes:
        if len(self._digests) >= REMEMBERED:
            self._digests.clear()
        found = self._digests.get(key)
        if found is None:
            found = self._digests[key] = self._content.digest(key, size)
        return found

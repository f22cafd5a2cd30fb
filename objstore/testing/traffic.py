"""Reads and writes that go on in the background while something is done to the cluster, and what came of them."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections.abc import Callable
from types import TracebackType

from objstore.testing.s3client import S3Client, S3Error

FAILURES = (S3Error, OSError, http.client.HTTPException)
_SIZES = (0, 700, 20_000, 33_000, 150_000, 600_000, 1_300_000)
_PAUSE_S = 0.02  # the machine has other work to do as well
_ERRORS_KEPT = 5


class Traffic:
    """`workers` threads, each writing objects, reading them back at once and again later, comparing all bytes.

    Use it in a `with`. Nothing is retried: `failed` counts every request that did not succeed."""

    def __init__(self, client: S3Client, bucket: str, workers: int = 2) -> None:
        self._client = client
        self._bucket = bucket
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(workers)]
        self._written: dict[str, bytes] = {}
        self.requests = 0
        self.failed = 0
        self.wrong = 0
        self.errors: list[str] = []

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def objects(self) -> int:
        return len(self._written)

    def read_all_again(self) -> None:
        """Once more, every object that was written."""
        for key in list(self._written):
            self._read(key)

    def attempt(self, action: Callable[[], None], what: str) -> bool:
        """Count one request; whether it succeeded."""
        try:
            action()
        except FAILURES as error:
            self._count(failed=f"{what}: {error or type(error).__name__}")
            return False
        self._count()
        return True

    def found_wrong(self, what: str) -> None:
        with self._lock:
            self.wrong += 1
            self._keep(f"wrong bytes: {what}")

    def _work(self, worker: int) -> None:
        turn = 0
        while not self._stop.is_set():
            key = f"live/{worker}/{turn:06d}"
            size = _SIZES[turn % len(_SIZES)]
            data = hashlib.shake_128(key.encode()).digest(size)
            if self.attempt(lambda key=key, data=data: self._client.put(self._bucket, key, data), f"PUT {key}"):  # type: ignore[misc]
                with self._lock:
                    self._written[key] = data
                self._read(key)
                self._read(f"live/{worker}/{turn // 2:06d}")
            turn += 1
            time.sleep(_PAUSE_S)

    def _read(self, key: str) -> None:
        wanted = self._written.get(key)
        if wanted is None:
            return
        found: list[bytes] = []
        if self.attempt(lambda: found.append(self._client.get(self._bucket, key)), f"GET {key}") and found[0] != wanted:
            self.found_wrong(key)

    def _count(self, failed: str = "") -> None:
        with self._lock:
            self.requests += 1
            if failed:
                self.failed += 1
                self._keep(failed)

    def _keep(self, error: str) -> None:
        if len(self.errors) < _ERRORS_KEPT:
            self.errors.append(f"{time.strftime('%H:%M:%S')} {error}")

"""The data of a bench: what is to be done, what its processes tell each other, and what came out.

The result is what is written to a file, for `report` and for whoever reads it with other tools.
"""

from __future__ import annotations

import msgspec

from objstore.model.formats import json_decoder

FORMAT = 1
OPERATIONS = ("put", "get", "range", "head", "list", "delete", "mixed", "degraded", "repair")
READS = ("get", "degraded", "repair")  # whose load are GETs of whole objects


class Endpoint(msgspec.Struct, frozen=True):
    """Where the load goes. `name` is what tables call it."""

    name: str
    host: str
    port: int
    access_key: str
    secret: str
    region: str = "us-east-1"
    tls: bool = False

    @property
    def authority(self) -> str:
        """As the header Host says it."""
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"


class Phase(msgspec.Struct, frozen=True):
    """Some operations of one kind, as many at a time as there are connections. Degraded: GETs while nodes are dead;
    repair: what a dead node held is made again, and GETs go on at `rate`, if there is one."""

    operation: str
    size: int  # of an object, in bytes
    connections: int
    seconds: float  # that are measured
    warmup_s: float
    range_size: int = 0  # bytes of a range read; 0: an eighth of the object
    verify: bool = False  # the digest of every whole object that is read
    objects: int = 0  # no more than so many are written; 0: as many as there is time for
    keys: int = 1000  # in a page of a listing
    prepared: int = 0  # objects that there are before it at least; 0: some
    rate: float = 0.0  # operations per second, begun when they are due; 0: each when the one before it has ended


class Job(msgspec.Struct, frozen=True):
    """What one process of the load does in one phase. `written`: by process, how many objects there are."""

    endpoint: Endpoint
    bucket: str
    prefix: str  # of its objects
    phase: Phase
    seed: int
    process: int  # from 0
    connections: int  # of this process
    written: list[int]
    objects: int = 0  # this process writes no more; 0: no bound
    begin_s: float = 0.0  # by time.monotonic


class Tick(msgspec.Struct, frozen=True, tag=True):
    """Of one process, twice a second: what was done since the last."""

    at_s: float  # since the measured time began; before it: below 0
    ops: int
    bytes: int
    errors: int
    p50_us: float
    p99_us: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """Of one process, at the end of its phase."""

    ops: int
    bytes: int
    errors: dict[str, int]
    retried: int
    verified: int
    mismatches: int
    seconds: float
    cpu_s: float
    written: int  # objects of this process that exist now
    counts: list[tuple[int, int]]
    total_us: int
    longest_us: int
    first_counts: list[tuple[int, int]]
    keys: int = 0  # that were listed


class Quantiles(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0
    mean: float = 0.0


class Second(msgspec.Struct, frozen=True, array_like=True):
    """One second of a phase, of all processes."""

    at_s: float
    ops: int
    bytes: int
    errors: int


class Mark(msgspec.Struct, frozen=True):
    """What happened to the cluster during a phase."""

    at_s: float
    text: str


class Measured(msgspec.Struct, frozen=True):
    phase: Phase
    seconds: float
    ops: int
    bytes: int
    errors: dict[str, int]
    retried: int
    latency: Quantiles
    first_byte: Quantiles
    series: list[Second]
    client_cpu_s: float
    processes: int
    server_cpu_s: float | None = None  # None: its processes are not known
    server_rss_bytes: int | None = None
    verified: int = 0
    mismatches: int = 0
    keys: int = 0
    marks: list[Mark] = []
    before: Quantiles | None = None  # of repair: the latency of the same GETs before it
    early: bool = False  # it was ended before its time

    @property
    def ops_per_s(self) -> float:
        return self.ops / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_s(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0


class Result(msgspec.Struct, frozen=True):
    """Of one endpoint."""

    endpoint: str
    at: str  # UTC, ISO 8601
    environment: dict[str, str]
    measured: list[Measured]
    partial: bool = False  # it was ended early
    limits: dict[str, float] = {}  # what this machine can do at most, measured in the same run
    format: int = FORMAT


encode_result = msgspec.json.Encoder().encode
decode_result = json_decoder(Result, "the result of a bench", known=FORMAT)
encode_line = msgspec.json.Encoder().encode
decode_line = msgspec.json.Decoder(Tick | Done).decode
decode_job = msgspec.json.Decoder(Job).decode

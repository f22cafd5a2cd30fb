"""Tables and ratios."""

from __future__ import annotations

import msgspec

from objstore.bench.model import Mark, Measured, Phase, Quantiles, Result, Second, decode_result, encode_result
from objstore.bench.report import compared, table, whole

PHASE = Phase("get", 1 << 20, 16, 10.0, 2.0, verify=True)


def measured(ops: int, **more: object) -> Measured:
    found = Measured(
        phase=PHASE, seconds=10.0, ops=ops, bytes=ops << 20, errors={}, retried=0,
        latency=Quantiles(1.0, 2.0, 30.0, 400.0, 5000.0, 1.5), first_byte=Quantiles(0.5),
        series=[Second(float(at), ops // 10, (ops // 10) << 20, 0) for at in range(10)],
        client_cpu_s=1.0, processes=1, server_cpu_s=2.0, verified=ops,
    )  # fmt: skip
    return msgspec.structs.replace(found, **more)


def test_a_row_of_the_table() -> None:
    head, row = table([measured(1000)])
    found = dict(zip(head.replace("µs CPU/op", "cpu").replace("MiB/CPU s", "per").split(), row.split(), strict=True))
    assert found == {
        "op": "get", "size": "1MiB", "conc": "16", "op/s": "100", "MiB/s": "100.0", "p50": "1.0ms", "p90": "2.0ms",
        "p99": "30ms", "p99.9": "400ms", "max": "5.0s", "TTFB": "0.5ms", "cpu": "2,000", "per": "500", "errors": "0",
    }  # fmt: skip


def test_what_must_be_known_beside_the_figures_is_said() -> None:
    one = measured(1000, mismatches=2, errors={"503 SlowDown": 3}, marks=[Mark(5.0, "killed n3")], client_cpu_s=9.5)
    result = Result("x", "2026-01-31T00:00:00Z", {"cpus": "2"}, [one], partial=True)
    text = "\n".join(whole(result))
    for said in ("partial", "2 mismatches", "3 x 503 SlowDown", "at 5.0 s: killed n3", "may be the limit"):
        assert said in text
    assert decode_result(encode_result(result)) == result


def test_ratios_are_of_rounds_beside_each_other() -> None:
    """A machine that slows down over time slows both: each round is judged for itself."""
    first, second = [measured(n) for n in (2000, 1000, 300)], [measured(n) for n in (1000, 500, 100)]
    head, row = compared(first, second)
    cells = row.split()
    assert cells[:8] == ["get", "1MiB", "16", "3", "100", "50", "2.00", "2.00-3.00"]
    assert head.split()[:4] == ["op", "size", "conc", "rounds"]


def test_rounds_without_any_answer_have_no_ratio() -> None:
    assert "-" in compared([measured(0)], [measured(10)])[1]

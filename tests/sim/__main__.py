"""python -m tests.sim: search seeds for runs in which the store does not keep its promises.

    --seeds N --start S --jobs J    so many seeds from S on, in J processes; --minutes M ends the search earlier
    --twice                         every seed twice, in two processes that hash differently: equal traces
    --seed X                        one seed: its plan, the faults as they happened, and what was wrong
    --canaries [NAMES]              planted bugs, each of which must be found

Exit code 1 when something was found; each failure with the command that shows it again.
"""

from __future__ import annotations

import argparse
import logging
import sys

from tests.sim.plan import draw
from tests.sim.runner import run_plan
from tests.sim.search import search


def show(seed: int) -> int:
    """Returns 1 if the seed is bad."""
    logging.disable(logging.CRITICAL)
    plan = draw(seed)
    print(plan, "as it happened:", sep="\n")
    report = run_plan(plan)
    print(*report.log, sep="\n")
    print(f"{report.operations} operations, {report.failed} unavailable, {report.messages} messages, "
          f"{report.seconds:.0f} virtual seconds, trace {report.trace}")  # fmt: skip
    print("longest:", ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in sorted(report.longest.items())))
    print(*(report.wrong or ["nothing is wrong"]), sep="\n")
    return int(bool(report.wrong))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--canaries", nargs="*", metavar="NAME")
    parser.add_argument("--limit", type=int, default=0, help="of seeds for each canary")
    options = parser.parse_args(arguments)
    if options.canaries is not None:
        from tests.sim import canaries

        return int(canaries.main(options.canaries, limit=options.limit, jobs=options.jobs))
    if options.seed is not None:
        return show(options.seed)
    seeds = range(options.start, options.start + options.seeds)
    return int(search(seeds, jobs=options.jobs, minutes=options.minutes, twice=options.twice) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

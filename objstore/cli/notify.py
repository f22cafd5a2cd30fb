"""`objstore notify`: targets of event notifications, and what waits for them.

Exit code: 0 every target answers, as far as it was tried; 3 one does not; 4 unavailable.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec

from objstore.admin import figures
from objstore.cli.connect import add_cluster_flags, connected
from objstore.cli.identity import table
from objstore.cluster.surveys import read_survey
from objstore.model.errors import Unavailable
from objstore.model.survey import Survey

EXIT_DEGRADED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Targets are those of [notify.NAME] in the configuration; rules of buckets name them: "
        "aws s3api put-bucket-notification-configuration"
    )
    parts = parser.add_subparsers(dest="what", required=True, metavar="what")
    text = "every target: what waits for it, since when, and why it fails, if it does"
    part = parts.add_parser("status", help=text, description=text)
    part.add_argument("--json", action="store_true", help="as JSON")
    add_cluster_flags(part)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_status(arguments))


async def _status(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access:
        survey = await read_survey(access.coordinator)
    if survey is None:
        raise Unavailable("no repairer has looked at the data yet; is one running? see: objstore status")
    if arguments.json:
        print(msgspec.json.encode({"as_of_ms": survey.as_of_ms, "targets": survey.notify}).decode())
    else:
        print("\n".join(describe(survey, time.time_ns() // 1_000_000)))
    return EXIT_DEGRADED if any(target.failing_since_ms for target in survey.notify) else 0


def describe(survey: Survey, now_ms: int) -> list[str]:
    if not survey.notify:
        return ["no targets: write [notify.NAME] with a url into the configuration of gateways and repairers"]

    def ago(ms: int) -> str:
        return figures.duration(max(0, now_ms - ms) / 1000) if ms else "-"

    heads = ("TARGET", "PENDING", "OLDEST", "DELIVERED", "FAILED", "DROPPED", "STATE")
    rows = [
        (
            target.name,
            figures.count(target.pending),
            ago(target.oldest_ms),
            figures.count(target.delivered),
            figures.count(target.failed),
            figures.count(target.given_up),
            f"fails since {ago(target.failing_since_ms)}: {target.reason}" if target.failing_since_ms else "answers",
        )
        for target in survey.notify
    ]
    counted = f"delivered, failed and dropped: by {survey.leader}; what gateways deliver themselves is in their metrics"
    return [*table(heads, rows), counted]

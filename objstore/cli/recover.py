"""`objstore recover`: bring buckets, keys and uploads back after the metadata index was lost on too many nodes.

Without --yes it only looks. The cluster has to run, with every node that there still is: each reads the journal
beside its volumes. Exit codes: 0 done, or looked; 4 something does not answer; 6 refused: nothing to recover, or
acknowledged writes may be missing and --accept-loss was not given.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import msgspec

from objstore.adapters.randomness import SystemRandom
from objstore.admin import figures
from objstore.cli.connect import add_cluster_flags, connected
from objstore.cli.main import EXIT_REFUSED
from objstore.cli.progress import is_terminal
from objstore.cli.roles import codec_of
from objstore.recovery.procedure import Defaults, Finding, MapChanged, Recovery

CLAIM_TRIES = 5


class Report(msgspec.Struct):
    """What --json prints."""

    needed: bool
    recovered: bool
    unfinished: bool  # an earlier recovery was interrupted
    map_lost: bool
    nodes: int  # that run
    journals: int  # former lives found on them
    missing: list[str]  # members of the map that neither run nor left a journal
    damaged: int  # places in journals that do not verify
    partitions: int
    headless: int  # partitions that cannot be served now
    unsure: int  # partitions of which acknowledged writes may be missing
    registers: int
    buckets: int
    objects: int
    bytes: int
    uploads: int
    deleted: int
    format: int = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Start every node that there still is before. Without --yes nothing is changed. It may be interrupted and "
        "run again. Exit code: 0 done, or looked; 4 something does not answer; 6 refused."
    )
    add_cluster_flags(parser)
    parser.add_argument("--yes", action="store_true", help="do it, instead of only looking")
    parser.add_argument("--accept-loss", action="store_true", help="also when acknowledged writes may be missing")
    parser.add_argument("--json", action="store_true", help="what was found and done as JSON")


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_main(arguments))


async def _recover(recovery: Recovery, arguments: argparse.Namespace, progress: _Progress) -> tuple[Finding, str, bool]:
    """(what was found, why nothing may be done, whether it was done). Looks again when the map changes under it, as
    it does while nodes are still coming and going."""
    for tries_left in reversed(range(CLAIM_TRIES)):
        found = await recovery.examine()
        progress.clear()
        refusal = _refusal(found, accept_loss=arguments.accept_loss)
        if not arguments.json:
            print("\n".join(describe(found)))
        if refusal or not arguments.yes:
            return found, refusal, False
        try:
            await recovery.carry_out(found)
        except MapChanged:
            if not tries_left:
                raise
            print("the cluster map has changed meanwhile; looking again", file=sys.stderr)
            continue
        finally:
            progress.clear()
        return found, "", True
    raise AssertionError("the last try returns or raises")


async def _main(arguments: argparse.Namespace) -> int:
    progress = _Progress()
    try:
        async with connected(arguments) as access:
            cluster = access.config.cluster
            defaults = Defaults(cluster.code, cluster.partition_bits, codec_of(cluster), cluster.initial_nodes)
            recovery = Recovery(access.coordinator, access.transport, SystemRandom(), defaults, progress)
            found, refusal, recovered = await _recover(recovery, arguments, progress)
    finally:
        progress.clear()
    if arguments.json:
        print(msgspec.json.encode(report(found, recovered=recovered)).decode())
    elif recovered:
        print("\nDone: requests are answered again, and repair goes on from here.\nNext: objstore status")
    elif not refusal:
        print("\nNothing has been changed. Next: objstore recover --yes")
    if refusal and (arguments.yes or not found.is_needed):
        print(f"error: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    if refusal and not arguments.json:
        print(f"\nNothing has been changed. {refusal[0].upper()}{refusal[1:]}")
    return 0


def _refusal(found: Finding, *, accept_loss: bool) -> str:
    if not found.is_needed:
        return (
            "every partition of the metadata still has a majority of its owners: nothing needs to be recovered. "
            "Nodes that are away or lost their index are made whole by repair; look at: objstore status"
        )
    if found.outlook.unsure and not accept_loss:
        names = f"start {' '.join(found.missing_names)} if you can, and look again" if found.missing_names else ""
        return (
            "acknowledged writes may be missing from what is left. "
            f"{names or 'Start every node that there still is'}; else: objstore recover --yes --accept-loss"
        )
    return ""


def report(found: Finding, *, recovered: bool) -> Report:
    census, outlook = found.census, found.outlook
    return Report(
        needed=found.is_needed,
        recovered=recovered,
        unfinished=found.unfinished,
        map_lost=found.before is None,
        nodes=len(found.leases),
        journals=found.roster.lives,
        missing=found.missing_names,
        damaged=sum(found.roster.damaged.values()),
        partitions=outlook.partitions,
        headless=outlook.headless,
        unsure=outlook.unsure,
        registers=census.registers,
        buckets=census.buckets,
        objects=census.objects,
        bytes=census.bytes,
        uploads=census.uploads,
        deleted=census.deleted,
    )


def describe(found: Finding) -> list[str]:
    census, outlook, roster = found.census, found.outlook, found.roster
    lines = [
        f"{figures.plural(len(found.leases), 'node')} run; "
        f"they have {figures.plural(roster.lives, 'journal')} of metadata indexes that were lost"
    ]
    if found.before is None:
        lines.append("the cluster map was lost: a new one is made of the nodes that run")
    if found.unfinished:
        lines.append("an earlier recovery was interrupted")
    if found.missing_names:
        lines.append(f"{' '.join(found.missing_names)}: gone without a journal")
    share = f"{figures.count(outlook.headless)} of {figures.plural(outlook.partitions, 'partition')}"
    lines.append(f"{share} of the metadata cannot be served now")
    if found.is_needed:
        names = f": {', '.join(census.names)}" + (" ..." if census.buckets > len(census.names) else "")
        lines += [
            "",
            f"  buckets   {figures.count(census.buckets)}{names if census.names else ''}",
            f"  objects   {figures.count(census.objects)}, {figures.size(census.bytes)}",
            f"  uploads   {figures.count(census.uploads)} open",
            f"  deleted   {figures.plural(census.deleted, 'key')} that stay deleted",
        ]
        if census.unreadable:
            lines.append(
                f"  unknown   {figures.plural(census.unreadable, 'record')} of another release, kept as they are"
            )
    if damaged := sum(roster.damaged.values()):
        lines += ["", f"{figures.plural(damaged, 'place')} in the journals of {len(roster.damaged)} nodes are damaged"]
    if found.is_needed:
        lines += ["", _verdict(found)]
    return lines


def _verdict(found: Finding) -> str:
    if found.outlook.unsure:
        return f"Acknowledged writes may be missing in {figures.plural(found.outlook.unsure, 'partition')}."
    if found.before is None:
        return "Nothing acknowledged is missing, if no more nodes are away than the erasure code may lose."
    return "Nothing acknowledged is missing: a majority of the owners of every partition has its records."


class _Progress:
    """One line that changes in place on a terminal; elsewhere one per step."""

    def __init__(self) -> None:
        self._in_place = is_terminal(sys.stderr)
        self._step = ""

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._in_place:
            print(f"\r\x1b[2K{step} {done} of {total}", end="", file=sys.stderr, flush=True)
        elif step != self._step:
            print(f"{step} ...", file=sys.stderr, flush=True)
        self._step = step

    def clear(self) -> None:
        if self._in_place and self._step:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        self._step = ""

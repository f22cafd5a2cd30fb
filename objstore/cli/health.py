"""`objstore health`: what is wrong, code by code, and what to do; and the checks of scripts, balancers and containers.

Exit codes: 0 healthy, or the check holds; 3 degraded, or the code asked about holds now; 4 unavailable, or a probe
failed; 6 --maintenance: not now. Starts fast: neither asyncio nor aiohttp, but for --maintenance and --token.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.resources import files

import msgspec

from objstore.admin import text
from objstore.admin.codes import CODES, Code, Severity
from objstore.admin.status import EXIT_CODES, Reason, Status
from objstore.cli.env import which_cluster
from objstore.cli.main import EXIT_UNAVAILABLE
from objstore.cli.status import Source, add_source_flags
from objstore.model.errors import ConfigError, InvalidRequest, Unavailable

EXIT_HOLDS = 3
PROBE_TIMEOUT_S = 5.0
_PROBES = {
    "live": ("health/live", "does the gateway answer at all"),
    "ready": ("health/ready", "do requests belong there; no while it stops, or reaches too little of the cluster"),
    "cluster": ("health/cluster", "can every key be written now"),
    "cluster-read": ("health/cluster/read", "can every key be read now"),
}
_RUNBOOK = "HEALTH.md"
_SYMBOLS: dict[Severity, str] = {"error": "✗", "warning": "▲", "info": "·"}


class Report(msgspec.Struct):
    """What --json prints."""

    verdict: str
    summary: str
    reasons: list[Reason]
    format: int = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit code: 0 healthy, or the check holds; 3 degraded, or CODE holds now; 4 unavailable, or a probe failed; "
        "6 --maintenance: not now."
    )
    parser.add_argument("code", nargs="?", metavar="CODE", help="what it means, what to do, and whether it holds now")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    what = parser.add_mutually_exclusive_group()
    for name, (_, meaning) in _PROBES.items():
        what.add_argument(f"--{name}", dest="probe", action="store_const", const=name, help=f"ask a gateway: {meaning}")
    what.add_argument(
        "--maintenance", nargs="+", metavar="NODE", help="may these nodes be stopped now (objstore node ok-to-stop)"
    )
    what.add_argument("--token", action="store_true", help="print what opens /_objstore/metrics of the gateways")
    what.add_argument("--codes", action="store_true", help="every code that there is")
    parser.add_argument("--endpoint", metavar="URL", help="the gateway to probe (default: the cluster's first)")
    parser.set_defaults(coordinator=None)  # that which the configuration names
    add_source_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.probe:
        return _probe(arguments)
    if arguments.maintenance:
        from objstore.cli import node

        return node.run(argparse.Namespace(**vars(arguments), action="ok-to-stop", names=arguments.maintenance))
    if arguments.token:
        from objstore.cli.connect import config_of
        from objstore.cli.exporter import token_of

        print(token_of(config_of(arguments)))
        return 0
    if arguments.codes:
        return _list_codes(as_json=arguments.json)
    if arguments.code:
        return _explain(arguments)
    status = Source(arguments).status()
    if arguments.json:
        print(msgspec.json.encode(Report(status.verdict, status.summary, status.reasons)).decode())
    else:
        print(render(status))
    return EXIT_CODES[status.verdict]


def render(status: Status) -> str:
    lines = [text.headline(status)]
    for reason in status.reasons:
        code = CODES[reason.code]
        lines += ["", f"{_SYMBOLS[code.severity]} {reason.code}  {reason.text}", f"    {code.meaning}"]
        lines += [f"    next: {reason.next}"] if reason.next else []
    if status.reasons:
        lines += ["", f"More about a code: objstore health {status.reasons[0].code}"]
    return "\n".join(lines)


def _list_codes(*, as_json: bool) -> int:
    if as_json:
        print(msgspec.json.encode([code._asdict() for code in CODES.values()]).decode())
    else:
        width = max(map(len, CODES))
        print("\n".join(f"{code.name:<{width}}  {code.severity:<8} {code.meaning}" for code in CODES.values()))
    return 0


# --- one code ---------------------------------------------------------------------------------------------------


def _explain(arguments: argparse.Namespace) -> int:
    """The runbook needs no cluster: where none is found, only it is shown."""
    code = CODES.get(arguments.code.upper())
    if code is None:
        raise InvalidRequest(f"there is no code {arguments.code!r}; all of them: objstore health --codes")
    try:
        holding: list[str] | None = [r.text for r in Source(arguments).status().reasons if r.code == code.name]
    except (ConfigError, Unavailable):
        if arguments.config or arguments.data:
            raise
        holding = None
    paragraph = runbook(code)
    if arguments.json:
        print(msgspec.json.encode({**code._asdict(), "runbook": paragraph, "holds": holding}).decode())
    else:
        now = "(no cluster was asked)" if holding is None else "; ".join(holding) or "no"
        print(f"{code.name}: {code.severity}, {code.meaning}\nnow: {now}\n\n{paragraph}\n\nnext: {code.next}")
    return EXIT_HOLDS if holding else 0


def runbook(code: Code) -> str:
    """Its section of HEALTH.md."""
    found = files("objstore.admin").joinpath(_RUNBOOK).read_text("utf-8")
    return found.partition(f"\n## {code.name}\n")[2].partition("\n## ")[0].strip()


# --- probes -----------------------------------------------------------------------------------------------------


def _probe(arguments: argparse.Namespace) -> int:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    url = urlsplit(_endpoint(arguments))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidRequest(f"--endpoint {arguments.endpoint!r} is no URL such as http://127.0.0.1:9000")
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname, url.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", f"/_objstore/{_PROBES[arguments.probe][0]}")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{url.geturl()} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    is_ok = answer.status == 200
    if arguments.json:
        print(body.decode(errors="replace").strip())
    else:
        print(_sentence(body) or f"HTTP {answer.status}", file=sys.stdout if is_ok else sys.stderr)
    return 0 if is_ok else EXIT_UNAVAILABLE


def _endpoint(arguments: argparse.Namespace) -> str:
    if arguments.endpoint:
        return str(arguments.endpoint)
    folder, path = which_cluster(arguments)
    if folder is not None:
        endpoints = folder.running().endpoints
        if not endpoints:
            raise Unavailable("no gateway of this cluster serves yet; see: objstore status")
        return endpoints[0]
    from objstore import config
    from objstore.rpc.sockets import join_address, split_address

    host, port = split_address(config.load(path, os.environ).gateway.listen)
    if port == 0:
        raise ConfigError("gateway.listen has port 0, so nobody knows where it is: give --endpoint URL")
    return f"http://{join_address({'0.0.0.0': '127.0.0.1', '::': '::1', '': '127.0.0.1'}.get(host, host), port)}"


def _sentence(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["text"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ""

"""Reading all records from an etcd with plain sockets: for commands that have to start fast (no asyncio).

Like `etcd_http.py`, for one request that may be repeated: the members are asked in turn.
"""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import msgspec

from objstore.cluster import etcd_json as etcd
from objstore.cluster.etcd_access import LEADER_HEADER, TOKEN_HEADER, EtcdAccess, words_of
from objstore.cluster.etcd_json import Fault
from objstore.model.errors import Unreachable


def read_all(access: EtcdAccess, timeout_s: float) -> dict[str, bytes]:
    """Every key of ours and its value. `timeout_s`: of each member. Raises Unreachable."""
    problems = []
    for endpoint in access.endpoints:
        try:
            return _read(access, endpoint, timeout_s)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError, Unreachable) as error:
            problems.append(f"{endpoint}: {_words(error)}")
    raise Unreachable("; ".join(problems))


def _read(access: EtcdAccess, endpoint: str, timeout_s: float) -> dict[str, bytes]:
    where = urlsplit(endpoint)
    if where.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            where.netloc, timeout=timeout_s, context=access.tls()
        )
    else:
        connection = http.client.HTTPConnection(where.netloc, timeout=timeout_s)
    try:
        headers = {LEADER_HEADER: "true"}
        if access.user and (token := _token(connection, access, headers)):
            headers[TOKEN_HEADER] = token
        status, raw = _post(connection, etcd.RANGE, etcd.encode(etcd.range_under(access.namespace)), headers)
        if status != 200:
            raise Unreachable(etcd.refusal(status, raw).text)
        found = etcd.decode(raw, etcd.Ranged)
        return {kv.key.decode().removeprefix(access.namespace): kv.value for kv in found.kvs}
    finally:
        connection.close()


def _token(connection: http.client.HTTPConnection, access: EtcdAccess, headers: dict[str, str]) -> str:
    body = etcd.encode({"name": access.user, "password": access.password})
    status, raw = _post(connection, etcd.AUTHENTICATE, body, headers)
    if status == 200:
        return etcd.decode(raw, etcd.Token).token
    found = etcd.refusal(status, raw)
    if found.fault is Fault.NO_AUTH:
        return ""
    raise Unreachable(found.text)


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def _words(error: Exception) -> str:
    return words_of(error) if isinstance(error, OSError) else str(error) or type(error).__name__

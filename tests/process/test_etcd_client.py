"""The coordinator on a real etcd, where the contract suite does not look: failures, lost data, TLS, passwords."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from objstore.cluster.etcd import EtcdCoordinator
from objstore.cluster.etcd_access import EtcdAccess
from objstore.cluster.etcd_blocking import read_all
from objstore.cluster.etcd_compaction import KEY, Compaction
from objstore.model.errors import ConfigError, Unavailable
from tests.process import etcd
from tests.process.conftest import program

PATIENCE_S = 30.0  # only a failure waits so long
NAMESPACE = "/objstore/x/"


def use(access: EtcdAccess, body: Callable[[EtcdCoordinator], Awaitable[None]], *, first: int = 0) -> None:
    async def main() -> None:
        coordinator = EtcdCoordinator(access, first=first)
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await body(coordinator)
        finally:
            await coordinator.close()

    asyncio.run(main())


@pytest.fixture
def three(tmp_path: Path) -> Iterator[etcd.Etcd]:
    with etcd.running(tmp_path / "etcd", 3) as members:
        yield members


def test_a_member_that_stops_is_noticed_by_reads_changes_leases_and_watches(three: etcd.Etcd) -> None:
    access = EtcdAccess(tuple(three.urls), NAMESPACE)
    stopped = next(member for member in three.members if member is not three.leader())
    first = three.members.index(stopped)

    async def body(co: EtcdCoordinator) -> None:
        before = await co.put("n/a", b"1")
        lease = await co.grant(60)
        assert before is not None
        watch = asyncio.create_task(co.watch("n/", before, PATIENCE_S))
        await asyncio.sleep(0.5)  # the stream is open, on the member that will stop
        reading = EtcdCoordinator(access, first=first)  # each asks the stopped one first
        beating = EtcdCoordinator(access, first=first)
        changing = EtcdCoordinator(access, first=first)
        assert await reading.get("n/a") and await beating.keep_alive(lease) and await changing.get("n/a")
        stopped.stop()
        read, alive = await asyncio.gather(reading.get("n/a"), beating.keep_alive(lease))
        assert read is not None and read.value == b"1" and alive
        with pytest.raises(Unavailable, match="no answer in time; whether the change took place is not known"):
            await changing.put("other", b"1")
        changed = await changing.put("n/a", b"2")
        assert changed is not None and await watch >= changed
        for each in (reading, beating, changing):
            await each.close()

    use(access, body, first=first)


@pytest.mark.long
def test_a_member_without_the_others_refuses_instead_of_showing_old_things(three: etcd.Etcd) -> None:
    access = EtcdAccess(tuple(three.urls), NAMESPACE)

    async def body(co: EtcdCoordinator) -> None:
        before = await co.put("n/a", b"1")
        assert before is not None
        watch = asyncio.create_task(co.watch("n/", before, PATIENCE_S))
        for member in three.members[1:]:
            member.stop()
        with pytest.raises(Unavailable):
            await watch
        with pytest.raises(Unavailable):
            await co.get("n/a")
        for member in three.members[1:]:
            member.resume()
        three.wait_serving()
        assert await co.get("n/a")

    use(access, body)


def test_an_etcd_that_lost_its_data_is_noticed_by_calls_and_watches(tmp_path: Path) -> None:
    with etcd.running(tmp_path / "etcd") as single:

        async def body(co: EtcdCoordinator) -> None:
            for _ in range(5):
                before = await co.put("n/a", b"1")
            assert before is not None
            watch = asyncio.create_task(co.watch("n/", before, PATIENCE_S))
            await asyncio.sleep(0.2)
            single.kill()
            shutil.rmtree(tmp_path / "etcd" / "e1")
            single.start()
            single.wait_serving()
            found = [*await asyncio.gather(watch, return_exceptions=True)]  # so a Directory forgets what it has seen
            found += await asyncio.gather(co.get("n/a"), return_exceptions=True)
            assert isinstance(found[0], Unavailable)
            assert [True for each in found if isinstance(each, Unavailable) and "fell from" in str(each)] == [True]
            assert await co.range("") == ([], 1)
            assert await co.put("n/a", b"2", expected=0) == 2

        use(EtcdAccess(tuple(single.urls), NAMESPACE), body)


def test_old_revisions_are_forgotten_by_one_of_all_and_old_watches_answered_at_once(tmp_path: Path) -> None:
    with etcd.running(tmp_path / "etcd") as single:

        async def body(co: EtcdCoordinator) -> None:
            compacted: list[int] = []

            async def compact(revision: int) -> None:
                compacted.append(revision)
                await co._compact(revision)

            everybody = [Compaction(co, compact) for _ in range(3)]
            first = await co.put("n/a", b"1")
            assert first is not None
            for _ in range(2):  # all note that there is no key, one makes it
                await asyncio.gather(*(each.look() for each in everybody))
            assert compacted == []
            made = await co.get(KEY)
            assert made is not None
            await co.put("n/a", b"2")
            while not compacted:
                await asyncio.gather(*(each.look() for each in everybody))
            assert compacted == [made.revision]
            assert await co.watch("n/", first - 1, PATIENCE_S) > first
            _, now = await co.range("n/")
            watch = asyncio.create_task(co.watch("n/", now, PATIENCE_S))
            changed = await co.put("n/b", b"1")
            assert changed is not None and await watch >= changed

        use(EtcdAccess(tuple(single.urls), NAMESPACE), body)


# --- who may ask ------------------------------------------------------------------------------------------------


def _ask(tls: ssl.SSLContext | None, url: str, path: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10, context=tls).close()


def add_users(url: str, tls: ssl.SSLContext | None = None) -> None:
    """objstore may do everything below its namespace, and nothing else."""
    ask = partial(_ask, tls)
    ask(url, "/v3/auth/user/add", {"name": "root", "password": "root-secret"})
    ask(url, "/v3/auth/role/add", {"name": "root"})
    ask(url, "/v3/auth/user/grant", {"user": "root", "role": "root"})
    ask(url, "/v3/auth/role/add", {"name": "objstore"})
    begin, end = "L29ianN0b3JlL3gv", "L29ianN0b3JlL3gw"  # "/objstore/x/" and "/objstore/x0"
    permission = {"permType": "READWRITE", "key": begin, "range_end": end}
    ask(url, "/v3/auth/role/grant", {"name": "objstore", "perm": permission})
    ask(url, "/v3/auth/user/add", {"name": "objstore", "password": "a secret"})
    ask(url, "/v3/auth/user/grant", {"user": "objstore", "role": "objstore"})
    ask(url, "/v3/auth/enable", {})


async def all_verbs(co: EtcdCoordinator) -> None:
    lease = await co.grant(30)
    made = await co.put("n/a", b"1", lease=lease, expected=0)
    assert made is not None
    assert await co.keep_alive(lease)
    watch = asyncio.create_task(co.watch("n/", made, PATIENCE_S))
    changed = await co.put("n/b", b"2")
    assert changed is not None and await watch >= changed
    assert [entry.key for entry in (await co.range("n/"))[0]] == ["n/a", "n/b"]
    await co.revoke(lease)
    assert await co.get("n/a") is None
    assert await co.delete("n/b", expected=changed)
    await co._compact(changed)


def test_passwords(tmp_path: Path) -> None:
    with etcd.running(tmp_path / "etcd") as single:
        add_users(single.urls[0])
        urls = tuple(single.urls)
        ours = EtcdAccess(urls, NAMESPACE, user="objstore", password="a secret")
        use(ours, all_verbs)

        async def outlives_its_token(co: EtcdCoordinator) -> None:
            assert await co.put("k", b"1") is not None
            single.kill()  # it forgets all tokens
            single.start()
            single.wait_serving()
            assert await co.get("k") is not None
            assert await co.put("k", b"2") is not None

        use(ours, outlives_its_token)
        assert read_all(ours, 5.0) == {"k": b"2"}
        for access, text in (
            (EtcdAccess(urls, NAMESPACE), "etcd wants a user"),
            (EtcdAccess(urls, NAMESPACE, user="objstore", password="wrong"), "authentication failed"),
            (EtcdAccess(urls, "/other/", user="objstore", password="a secret"), "permission denied"),
        ):

            async def refused(co: EtcdCoordinator, text: str = text) -> None:
                with pytest.raises(Unavailable, match=text):
                    await co.get("k")

            use(access, refused)
            with pytest.raises(Unavailable):
                read_all(access, 5.0)


def make_certificates(folder: Path) -> None:
    """ca, server (for 127.0.0.1), client, nameless (a client without CommonName); other: an authority that signed none
    of them."""
    openssl = program("openssl")

    def run(*command: str) -> None:
        subprocess.run([openssl, *command], cwd=folder, check=True, capture_output=True, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}-key.pem", "-out", f"{name}.pem")
        run("req", "-x509", *curve, *files, "-subj", f"/CN={name}", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    (folder / "san.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name, subject in (("server", "/CN=server"), ("client", "/CN=client"), ("nameless", "/O=objstore")):
        run("req", "-new", *curve, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", subject)
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "san.ext")  # fmt: skip


def test_tls_with_certificates_of_clients(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    flags = ["--cert-file", "server.pem", "--key-file", "server-key.pem"]
    flags = [tmp_path.joinpath(flag).as_posix() if flag.endswith(".pem") else flag for flag in flags]
    flags += ["--client-cert-auth", "--trusted-ca-file", str(tmp_path / "ca.pem")]
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client-key.pem"
    etcd.program()
    single = etcd.Etcd(tmp_path, scheme="https", flags=flags)
    urls = tuple(single.urls)
    ours = EtcdAccess(urls, NAMESPACE, ca, cert, key)

    async def ready(co: EtcdCoordinator) -> None:
        while True:
            try:
                await all_verbs(co)
                return
            except Unavailable:
                await asyncio.sleep(0.1)

    try:
        single.start()
        use(ours, ready)
        assert read_all(ours, 5.0) == {}
        for access, text in (
            (EtcdAccess(urls, NAMESPACE, tmp_path / "other.pem", cert, key), "certificate verify failed"),
            (EtcdAccess(urls, NAMESPACE, ca), "coordinator.tls_cert"),
        ):

            async def refused(co: EtcdCoordinator, text: str = text) -> None:
                with pytest.raises(Unavailable, match=text):
                    await co.get("k")

            use(access, refused)
            with pytest.raises(Unavailable, match=text):
                read_all(access, 5.0)

        add_users(urls[0], ours.tls())
        with_password = replace(ours, user="objstore", password="a secret")
        nameless = tmp_path / "nameless.pem", tmp_path / "nameless-key.pem"
        use(replace(with_password, cert=nameless[0], key=nameless[1]), all_verbs)

        async def named(co: EtcdCoordinator) -> None:
            with pytest.raises(Unavailable, match="takes only certificates without a CommonName"):
                await co.get("k")

        use(with_password, named)
        with pytest.raises(Unavailable, match="CommonName"):
            read_all(with_password, 5.0)
    finally:
        single.kill()


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    urls = ("https://127.0.0.1:1",)
    with pytest.raises(ConfigError, match=r"tls_ca = .*nowhere\.pem cannot be used: No such file"):
        EtcdAccess(urls, NAMESPACE, tmp_path / "nowhere.pem").tls()
    with pytest.raises(ConfigError, match=r"tls_ca = .*junk\.pem cannot be used"):
        EtcdAccess(urls, NAMESPACE, tmp_path / "junk.pem").tls()
    with pytest.raises(ConfigError, match=r"tls_cert = .*junk\.pem and .* cannot be used"):
        EtcdAccess(urls, NAMESPACE, None, tmp_path / "junk.pem", tmp_path / "junk.pem").tls()
    assert EtcdAccess(("http://127.0.0.1:1",), NAMESPACE).tls() is None
    assert isinstance(EtcdAccess(urls, NAMESPACE).tls(), ssl.SSLContext)

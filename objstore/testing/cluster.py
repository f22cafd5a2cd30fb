"""A real cluster for a test: processes of their own, free ports, random keys, a temporary folder.

    with LocalCluster(nodes=8, ec="4+2") as cluster:
        s3 = cluster.boto3_client()
        cluster.kill("n3")
        ...
        cluster.wait_healthy(60)

It is what `objstore up` starts, by the same code. Its processes die with the thread that started it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from objstore.admin import text
from objstore.admin.collect import observe
from objstore.admin.snapshot import build
from objstore.admin.status import Status
from objstore.local import members
from objstore.local.folder import Folder, MemberState, State
from objstore.local.launch import Cluster, Options, ignore, launch
from objstore.local.supervisor import Report
from objstore.model.errors import DeadlineExceeded
from objstore.testing.s3client import S3Client

_TICK_S = 0.1


class LocalCluster:
    """Use it in a `with`, or call `start` and `close`. Names: n1.. nodes, g1.. gateways, r1.. repairers, c1.

    out_after: seconds until a silent node's data are rebuilt elsewhere. folder: kept, and started again on what
    it holds; without one everything is deleted at the end. environment: for all processes."""

    def __init__(
        self,
        nodes: int | None = None,
        ec: str | None = None,
        *,
        gateways: int = 1,
        repairers: int = 1,
        zones: int | None = None,
        heartbeat: float = 0.25,
        down_after: float = 1.0,
        out_after: float = 3.0,
        port: int = 0,
        start_timeout: float = 30.0,
        folder: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        kind: str = "test",
        report: Report = ignore,
    ) -> None:
        self._options = Options(
            nodes=nodes,
            code=ec,
            zones=zones,
            gateways=gateways,
            repairers=repairers,
            port=port,
            heartbeat_s=heartbeat,
            down_after_s=down_after,
            out_after_s=out_after,
            environment=dict(environment or {}),
        )
        self._start_timeout = start_timeout
        self._kept = folder
        self._kind = kind
        self._report = report
        self._folder = Folder(".")
        self._cluster: Cluster | None = None
        self._clients: list[S3Client] = []

    # --- life ---

    def start(self, *names: str) -> LocalCluster:
        """The cluster; or, given names, those of its members that have ended, with the data they had.

        Returns once they serve; raises StartFailed with the end of the log of the one that does not."""
        if names:
            self._act("start", names)
            return self
        assert self._cluster is None, "this cluster runs already"
        self._folder = Folder(self._kept or tempfile.mkdtemp(prefix="objstore-"))
        try:
            self._cluster = launch(
                self._folder, self._options, kind=self._kind, report=self._report, start_timeout_s=self._start_timeout
            )
        except BaseException:
            self._discard()
            raise
        return self

    def close(self, *, force: bool | None = None) -> None:
        """End all processes; in order if the folder is kept (or `force` is False), else at once."""
        cluster, self._cluster = self._cluster, None
        for client in self._clients:
            client.close()
        if cluster is not None:
            cluster.close(force=self._kept is None if force is None else force)
        self._discard()

    def _discard(self) -> None:
        if self._kept is None:
            shutil.rmtree(self._folder.path, ignore_errors=True)

    def __enter__(self) -> LocalCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what it is ---

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def endpoint(self) -> str:
        """URL of the first gateway."""
        return self._state.endpoints[0]

    @property
    def endpoints(self) -> list[str]:
        return list(self._state.endpoints)

    @property
    def env(self) -> dict[str, str]:
        """What every AWS SDK reads; also OBJSTORE_DATA for the command line."""
        state = self._state
        return {
            "AWS_ACCESS_KEY_ID": state.access_key,
            "AWS_SECRET_ACCESS_KEY": state.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": state.region,
            "OBJSTORE_DATA": str(self._folder.path),
        }

    @property
    def node_names(self) -> list[str]:
        return [member.name for member in self._state.members if member.role == "node"]

    def member(self, name: str) -> MemberState:
        self._running.supervisor.poll()
        return next(member for member in self._state.members if member.name == name)

    def s3_client(self) -> S3Client:
        """A small client without dependencies, closed with the cluster."""
        state = self._state
        client = S3Client(self.endpoint, state.access_key, state.secret_key, state.region)
        self._clients.append(client)
        return client

    def boto3_client(self, **more: Any) -> Any:
        """A boto3 S3 client for this cluster (needs boto3). `more`: further arguments of boto3.client."""
        import boto3

        state = self._state
        arguments = {
            "endpoint_url": self.endpoint,
            "aws_access_key_id": state.access_key,
            "aws_secret_access_key": state.secret_key,
            "region_name": state.region,
        }
        return boto3.client("s3", **{**arguments, **more})

    def log_tail(self, name: str) -> str:
        return self._running.supervisor.tail(name)

    # --- harm and help ---

    def kill(self, *names: str) -> None:
        """SIGKILL."""
        self._act("kill", names)

    def stop(self, *names: str) -> None:
        """SIGTERM; returns when it has ended."""
        self._act("stop", names)

    def pause(self, *names: str) -> None:
        """SIGSTOP: it hangs, its connections stay."""
        self._act("pause", names)

    def resume(self, *names: str) -> None:
        self._act("resume", names)

    def restart(self, *names: str) -> None:
        """Stop if it runs, then start."""
        self._act("restart", names)

    def wipe(self, *names: str) -> None:
        """Kill a node and erase its data, as if its disk had died."""
        self._act("wipe", names)

    def add_node(self, name: str, *, zone: str = "", capacity: str = "") -> None:
        """Start one more node: a spare until `objstore node add` and `objstore plan apply` give it a share."""
        members.add(self._running, name, zone=zone, capacity=capacity)

    def retire_node(self, name: str) -> None:
        """End a node, and never start it again."""
        members.retire(self._running, name)

    def corrupt(self, bucket: str, key: str, shard: int, *, segment: int = 0) -> str:
        """Flip a bit of that shard where it is stored; the name of the node that has it."""
        from objstore.testing.damage import flip_bit

        return flip_bit({name: self._folder.data_of(name) for name in self.node_names}, bucket, key, segment, shard)

    def _act(self, action: str, names: tuple[str, ...]) -> None:
        for name in names:
            self._running.supervisor.act(action, name)

    # --- how it is ---

    def status(self) -> Status:
        state = self._state
        return build(observe(state.coordinator, state.cluster_secret, local=True))

    def wait_healthy(self, timeout: float = 60.0) -> Status:
        """Until the verdict is HEALTHY: all nodes up, every object at full redundancy."""
        return self.wait(lambda status: status.verdict == "HEALTHY", timeout, "HEALTHY")

    def wait_whole(self, timeout: float = 60.0) -> Status:
        """Until every object is at full redundancy again, whether or not all nodes are up."""
        return self.wait(lambda status: status.is_whole, timeout, "at full redundancy")

    def wait(self, wanted: Callable[[Status], bool], timeout: float, name: str = "as wanted") -> Status:
        """Until `wanted(status)`. DeadlineExceeded carries the last status and the ends of the logs."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if wanted(status):
                return status
            if time.monotonic() > deadline:
                logs = "\n".join(f"{m.name}:\n{self.log_tail(m.name)}" for m in self._state.members)
                raise DeadlineExceeded(f"not {name} after {timeout:.0f} s\n{text.render(status)}\n\n{logs}")
            time.sleep(_TICK_S)

    @property
    def _running(self) -> Cluster:
        assert self._cluster is not None, "this cluster is not running; use it inside a `with`"
        return self._cluster

    @property
    def _state(self) -> State:
        return self._running.state

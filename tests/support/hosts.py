"""Hosts for tests: in this process, or as processes that can be killed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypedDict, Unpack

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from perdure.host.app import RunningHost, running_host
from perdure.host.config import HostConfig, effective_from_file
from support.servers import free_port, listens

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds that a host may take to start, or to end; on a machine with much else to do it takes its time."""
EXAMPLE = ROOT / "examples" / "key-value" / "key-value.wasm"


class Changes(TypedDict, total=False):
    """What a test may want otherwise: fields of `HostConfig`."""

    base: Path
    cache: Path
    secrets: Path
    grace: float


def host_config(manifest: Path, data: Path, *, host: str = "host-1", **changes: Unpack[Changes]) -> HostConfig:
    """A configuration on free ports."""
    return HostConfig(
        host=host,
        effective=effective_from_file(manifest, worker=None, local=True),
        listen=("127.0.0.1", 0),
        metrics_listen=("127.0.0.1", 0),
        advertise="",
        data=data,
        secrets=changes.get("secrets", data / "secrets"),
        base=changes.get("base", manifest.resolve().parent),
        cache=changes.get("cache", data / "cache"),
        grace=changes.get("grace", 2.0),
        settle=0.0,
    )


@dataclass
class Client:
    """Speaks to a host's API. Answers are JSON, as `json.loads` has it."""

    url: str
    session: aiohttp.ClientSession
    metrics: str = ""

    async def call(
        self, instance: str, function: str, *args: object, key: str | None = None, raw: bytes | None = None
    ) -> tuple[int, Any]:
        headers = {"Idempotency-Key": key} if key else {}
        target = f"{self.url}/v1/instances/{instance}/functions/{function}"
        # As a stream, which aiohttp wants of bodies beyond a megabyte.
        body = io.BytesIO(json.dumps(args).encode() if raw is None else raw)
        async with self.session.post(target, headers=headers, data=body) as reply:
            return reply.status, await reply.json(content_type=None)

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path) as reply:
            return reply.status, await reply.json(content_type=None)

    async def metric(self, name: str) -> float:
        """The sum over its labels."""
        async with self.session.get(self.metrics + "/metrics") as reply:
            families = text_string_to_metric_families(await reply.text())
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    async def until(self, name: str, value: float) -> None:
        """Wait until the metric is that."""
        async with asyncio.timeout(60):
            while await self.metric(name) != value:
                await asyncio.sleep(0.02)

    async def under_way(self, calls: int) -> None:
        """Wait until so many invocations run or wait for their instance."""
        await self.until("perdure_invocations_in_flight", calls)


async def acquainted(*clients: Client) -> None:
    """Wait until each host of a Worker knows all of them."""
    for client in clients:
        await client.until("perdure_hosts", len(clients))


@asynccontextmanager
async def local_host(
    manifest: Path, data: Path, *, host: str = "host-1", **changes: Unpack[Changes]
) -> AsyncIterator[tuple[RunningHost, Client]]:
    """A host in this process."""
    config = host_config(manifest, data, host=host, **changes)
    async with running_host(config, lambda line: None) as running, aiohttp.ClientSession() as session:
        yield running, Client(running.url, session, running.metrics_url)


@dataclass
class HostProcess:
    """`perdure run` as a process of its own. `directory`: where it is started, and what `manifest` is relative to.
    `module`: what Python runs."""

    manifest: Path
    data: Path
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    directory: Path | None = None
    module: str = "perdure"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, session: aiohttp.ClientSession) -> Client:
        return Client(self.url, session, f"http://127.0.0.1:{self.metrics_port}")

    def start(
        self, *, options: Sequence[str] = (), stderr: IO[bytes] | int = subprocess.DEVNULL, **environment: str
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, "run", str(self.manifest), "--data", str(self.data), "--listen",
             f"127.0.0.1:{self.port}", "--metrics-listen", f"127.0.0.1:{self.metrics_port}", "--log-level", "error", *options],
            env={**os.environ, **environment},
            stderr=stderr,
            cwd=self.directory,
        )  # fmt: skip
        limit = time.monotonic() + PATIENCE
        while not self._answers(self.process.pid):
            assert self.process.poll() is None, "the host ended while it started"
            assert time.monotonic() < limit, "the host did not become ready"
            time.sleep(0.05)

    def _answers(self, pid: int) -> bool:
        """It itself: while it starts, somebody else may have the port, of whom it will only learn later."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/component", timeout=5):
                return listens(pid, self.port)
        except OSError:
            return False

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(signum)

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(timeout=PATIENCE)
        self.process = None
        return code

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def retry(client: Client, instance: str, function: str, *args: object, key: str) -> object:
    """Repeat under one key until it is answered, as every client of ours does."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            status, answer = await client.call(instance, function, *args, key=key)
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.05)
            continue
        if status == 200:
            return answer
        assert status in (429, 503), (status, answer)
        await asyncio.sleep(0.05)
    raise AssertionError("never answered")

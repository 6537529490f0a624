"""Hosts to measure: `perdure run` over a provider, and a plain HTTP server, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from harness.rounds import spread_over
from support.hosts import EXAMPLE, HostProcess

_MANIFEST = """\
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {{name: home}}
spec: {{default: true, {provider}}}
---
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {{name: {worker}}}
spec:
  component: {{url: "file:component.wasm"}}
  keyValue: {{undeclaredBuckets: Allow}}
  limits: {{maxBodyBytes: 4Mi}}
"""


@contextlib.contextmanager
def perdure_host(worker: str, provider: str, *, component: Path = EXAMPLE) -> Iterator[HostProcess]:
    """The key-value example, or another component, under `perdure run`; `provider` as in a manifest, e.g.
    `sqlite: {}`."""
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        (base / "component.wasm").symlink_to(component)
        manifest = base / "worker.yaml"
        manifest.write_text(_MANIFEST.format(worker=worker, provider=provider))
        host = HostProcess(manifest, base / "data")
        host.start()
        try:
            yield host
        finally:
            host.stop()


@contextlib.contextmanager
def plain_server() -> Iterator[tuple[str, int]]:
    """(URL, pid) of a server of the same HTTP library that reads the body and answers `null`."""
    script = Path(__file__).with_name("plain_http.py")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.kill()
        process.communicate()


@dataclass
class Caller:
    """An HTTP client that sends the same call over `connections` kept-alive connections, each to its own instance.

    `keyed`: each call carries a new Idempotency-Key. Any answer but 200 ends the benchmark.
    """

    url: str
    session: aiohttp.ClientSession
    connections: int
    arguments: Sequence[object]
    keyed: bool
    sent: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.sent = [0] * self.connections
        self._body = json.dumps(list(self.arguments)).encode()
        label = "keyed" if self.keyed else "bare"
        self.instances = [f"{label}-{self.connections}-{number}" for number in range(self.connections)]
        self._urls = [f"{self.url}/v1/instances/{name}/functions/set" for name in self.instances]

    async def run(self, count: int) -> list[float]:
        return await spread_over(self.connections, count, self._one)

    async def _one(self, task: int) -> None:
        headers = {"Content-Type": "application/json"}
        if self.keyed:
            headers["Idempotency-Key"] = f"call-{self.sent[task]}"
        self.sent[task] += 1
        async with self.session.post(self._urls[task], data=self._body, headers=headers) as reply:
            answer = await reply.read()
            if reply.status != 200:
                raise RuntimeError(f"{self._urls[task]} answered {reply.status}: {answer.decode(errors='replace')}")

    def require_durable(self) -> None:
        """Every call that was answered is in the journal, once."""
        for name, sent in zip(self.instances, self.sent, strict=True):
            if sent == 0:
                continue
            with urllib.request.urlopen(f"{self.url}/v1/instances/{name}", timeout=10) as reply:
                sequence = json.load(reply)["sequence"]
            if sequence != sent:
                raise RuntimeError(f"{sent} calls were answered on {name}, but its journal has {sequence}")


@asynccontextmanager
async def client_session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    """At most `connections` connections, kept alive."""
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=300)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session

"""Real etcd and NATS servers for tests (`.ci/build-store-servers`), started on free ports."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.guests import built
from support.servers import free_port


@functools.cache
def store_servers() -> Path:
    """The directory of the programs."""
    return Path(os.environ.get("PERDURE_STORE_SERVERS") or built("build-store-servers"))


@dataclass
class ServerProcess:
    """`restart` keeps its data."""

    port: int
    directory: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        # The directory is there for whoever looks into a failure; servers of tests are quiet otherwise.
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.directory)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if self.answers():
                    return
            assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
            time.sleep(0.05)
        raise AssertionError(f"{self.command()[0]} did not start: {(self.directory / 'log').read_text()[-2000:]}")

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@dataclass
class EtcdServer(ServerProcess):
    peer: int = field(default_factory=free_port)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            str(store_servers() / "etcd"), "--data-dir", str(self.directory / "data"), "--log-level", "error",
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", f"http://127.0.0.1:{self.peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{self.peer}", *self.options,
        ]  # fmt: skip

    def answers(self) -> bool:
        if self.scheme == "https":
            with socket.create_connection(("127.0.0.1", self.port), 0.5):
                return True
        with urllib.request.urlopen(f"{self.url}/health", timeout=1) as reply:
            return b'"true"' in reply.read()


@contextlib.contextmanager
def etcd_server(*options: str, scheme: str = "http") -> Iterator[EtcdServer]:
    with tempfile.TemporaryDirectory() as directory:
        server = EtcdServer(free_port(), Path(directory), options, scheme=scheme)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@dataclass
class NatsServer(ServerProcess):
    scheme: str = "nats"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            str(store_servers() / "nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js",
            "-sd", str(self.directory / "data"), *self.options,
        ]  # fmt: skip

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 0.5) as probe:
            return probe.recv(64).startswith(b"INFO")


@contextlib.contextmanager
def nats_server(*options: str, config: str = "", scheme: str = "nats") -> Iterator[NatsServer]:
    """`config`: of a configuration file."""
    with tempfile.TemporaryDirectory() as directory:
        if config:
            (Path(directory) / "nats.conf").write_text(config)
            options = ("-c", "nats.conf", *options)
        server = NatsServer(free_port(), Path(directory), options, scheme=scheme)
        try:
            server.start()
            yield server
        finally:
            server.stop()

"""Real servers for tests: started on free ports, stopped with everything they made."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(pid: int, port: int) -> bool:
    """Whether it is this process that listens there; elsewhere than on Linux nobody can say."""
    if not Path("/proc/net/tcp").exists():
        return True
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(file.readlink()) in there:
                return True
    return False


@dataclass
class RedisServer:
    """A redis-server of its own. `restart` keeps its data (appendonly, fsync always)."""

    port: int
    directory: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which(os.environ.get("PERDURE_TEST_REDIS", "redis-server"))
        assert program is not None, "redis-server is not installed: run .ci/install-test-tools"
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", "",
             "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
             "--loglevel", "warning", *self.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2) as probe:
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    return
            time.sleep(0.05)
        raise AssertionError("redis-server did not start")

    def do(self, *command: str | bytes | int) -> Any:
        """One command's reply. Raises `hiredis.ReplyError`."""
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # It says a tuple of one.
            while (reply := reader.gets()) is False:
                data = connection.recv(1 << 16)
                if not data:
                    raise ConnectionResetError(f"the server on port {self.port} has closed the connection")
                reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def info(self, field: str) -> str:
        """One field of INFO, or ""."""
        lines = self.do("INFO", "everything").decode().splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith(field + ":")), "")

    def stop(self) -> None:
        if self.process is not None:
            # One that was paused would not notice.
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(free_port(), Path(directory), options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until it holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, hiredis.ReplyError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"after {seconds} s: not {what}")


@contextlib.contextmanager
def redis_replica(primary: RedisServer, *options: str) -> Iterator[RedisServer]:
    """A server that has caught up with `primary`."""
    with redis_server(
        "--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0", *options
    ) as server:
        eventually(lambda: server.info("master_link_status") == "up", "a replica in step")
        yield server


@contextlib.contextmanager
def redis_cluster(size: int = 3) -> Iterator[list[RedisServer]]:
    """Primaries of one Redis Cluster, each with its share of the slots."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(size):
            bus = str(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000")
            nodes.append(stack.enter_context(redis_server(*options)))
            nodes[0].do("CLUSTER", "MEET", "127.0.0.1", nodes[-1].port, bus)
        for number, node in enumerate(nodes):
            node.do("CLUSTER", "ADDSLOTSRANGE", 16384 * number // size, 16384 * (number + 1) // size - 1)
        for node in nodes:
            eventually(functools.partial(_is_whole, node, size), "a whole cluster")
        yield nodes


def _is_whole(node: RedisServer, size: int) -> bool:
    state = node.do("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in state and f"cluster_known_nodes:{size}" in state


@contextlib.contextmanager
def redis_sentinels(primary: RedisServer, count: int = 1) -> Iterator[list[RedisServer]]:
    """Sentinels that watch `primary` under the name `main`, and take it for dead after half a second."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sentinel = RedisServer(free_port(), folder)
            (folder / "sentinel.conf").write_text(
                f"port {sentinel.port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor main 127.0.0.1 {primary.port} {count // 2 + 1}\n"
                "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
            )
            program = shutil.which(os.environ.get("PERDURE_TEST_REDIS", "redis-server"))
            assert program is not None
            sentinel.process = subprocess.Popen(
                [program, str(folder / "sentinel.conf"), "--sentinel"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(sentinel.stop)
            found.append(sentinel)
        for sentinel in found:
            eventually(functools.partial(_sees, sentinel, count), "a Sentinel that sees all")
        yield found


def _sees(sentinel: RedisServer, count: int) -> bool:
    flat = sentinel.do("SENTINEL", "MASTER", "main")
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    return state[b"flags"] == b"master" and int(state[b"num-other-sentinels"]) == count - 1

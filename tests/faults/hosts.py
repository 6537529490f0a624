"""Host processes for fault tests: forked quickly, watched, killed, paused and resumed.

One `Nursery` for a whole test run. It ends with everything it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults.schedules import Fault
from support.guests import COMPILED

TESTS = Path(__file__).resolve().parents[1]
_START = 20.0
_QUICK = {"announce": 0.1, "ttl": 0.4, "dispatch": 0.1}


class HostDied(Exception):
    """The host ended before it was ready."""


@dataclass
class Host:
    """One process. `ended`, `stopped`, `ready`: set when that has happened."""

    name: str
    pid: int
    trace: Path
    log: Path
    pidfd: int
    fault: Fault | None = None
    url: str = ""
    metrics: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_stopped: bool = False

    async def start(self) -> None:
        """Wait until it answers. Raises `HostDied` (or it was paused on its way)."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.ready, self.ended, self.stopped)]
        done, _ = await asyncio.wait(waits, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        if not done:
            raise AssertionError(f"host {self.name} did not start: {self.words()}")
        if not self.ready.is_set():
            raise HostDied(self.name)

    def signal(self, signum: signal.Signals) -> None:
        if self.ended.is_set():
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signum)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended.wait()

    async def paused(self) -> None:
        """Until the kernel says that all of it stands still."""
        await self.stopped.wait()
        while _state(self.pid) not in ("T", "t", ""):
            await asyncio.sleep(0.002)

    def resume(self) -> None:
        self.stopped.clear()
        self.signal(signal.SIGCONT)

    def reached(self) -> list[str]:
        """`point:occurrence` in order."""
        return self.trace.read_text().split() if self.trace.exists() else []

    def words(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""


class _Ears(asyncio.DatagramProtocol):
    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._nursery.heard(json.loads(data))


class Nursery:
    """Made by `nursery()`."""

    def __init__(self, directory: Path, channel: socket.socket, tell: Path) -> None:
        self.directory = directory
        self._channel = channel
        self._tell = tell
        self._hosts: dict[int, Host] = {}
        self._early: dict[int, list[dict[str, str]]] = {}
        self._lock = asyncio.Lock()
        self._count = 0
        self.started = 0

    async def host(
        self,
        name: str,
        manifest: Path,
        data: Path,
        *,
        fault: Fault | None = None,
        traced: bool = False,
        mutant: str = "",
        quick: dict[str, float] | None = None,
    ) -> Host:
        """Start one; it is not ready yet."""
        self._count += 1
        base = self.directory / f"host-{self._count}"
        trace, log = base.with_suffix(".trace"), base.with_suffix(".log")
        request = {
            "name": name,
            "argv": ["run", str(manifest), "--data", str(data), "--listen", "127.0.0.1:0", "--metrics-listen",
                     "127.0.0.1:0", "--log-level", "warning"],
            "cache": str(COMPILED),
            "fault": None if fault is None else {"point": fault.point, "count": fault.count, "how": fault.how},
            "trace": str(trace) if traced else "",
            "log": str(log),
            "tell": str(self._tell),
            "quick": {**_QUICK, **(quick or {})},
            "mutant": mutant,
        }  # fmt: skip
        loop = asyncio.get_running_loop()
        async with self._lock:
            await loop.sock_sendall(self._channel, json.dumps(request).encode() + b"\n")
            pid = int(await loop.sock_recv(self._channel, 64))
        self.started += 1
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            host = Host(name, pid, trace, log, -1, fault)
            host.ended.set()
            return host
        host = Host(name, pid, trace, log, pidfd, fault)
        self._hosts[pid] = host
        loop.add_reader(host.pidfd, self._ended, host)
        for message in self._early.pop(pid, ()):
            self.heard(message)
        return host

    def heard(self, message: dict[str, str]) -> None:
        """What a host tells of itself."""
        pid = int(message["pid"])
        host = self._hosts.get(pid)
        if host is None:
            self._early.setdefault(pid, []).append(message)
        elif message["event"] == "ready":
            host.url, host.metrics = message["url"], message["metrics"]
            host.ready.set()
        elif message["event"] in ("stop", "restart"):
            host.was_stopped = True
            host.stopped.set()

    def _ended(self, host: Host) -> None:
        asyncio.get_running_loop().remove_reader(host.pidfd)
        os.close(host.pidfd)
        self._hosts.pop(host.pid, None)
        self._early.pop(host.pid, None)
        host.ended.set()

    async def end_all(self) -> None:
        for host in list(self._hosts.values()):
            await host.kill()


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """One process that has everything imported, and forks hosts."""
    directory = Path(tempfile.mkdtemp(prefix="perdure-faults-"))
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(directory / "zygote"))
    server.listen(1)
    server.setblocking(False)
    loop = asyncio.get_running_loop()
    path = f"{TESTS.parent / 'operator'}:{TESTS}"
    # The superuser of the tests' PostgreSQL, as a Secret would name it for the provider `base`.
    environment = {**os.environ, "PYTHONPATH": path, "PERDURE_BASE_USERNAME": "postgres"}
    environment.pop("PERDURE_FAULTPOINT", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "faults.entry",
        str(directory / "zygote"),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
    )
    tell = directory / "tell"
    made: Nursery | None = None
    try:
        async with asyncio.timeout(_START):
            channel, _ = await loop.sock_accept(server)
        channel.setblocking(False)
        made = Nursery(directory, channel, tell)
        ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ears.bind(str(tell))
        ears.setblocking(False)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Ears(made), sock=ears)
        yield made
        await made.end_all()
        transport.close()
        channel.close()
    finally:
        server.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""

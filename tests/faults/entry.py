"""The host process of the fault tests: the product's `perdure run`, with its boundaries made visible.

Started once (`python -m faults.entry SOCKET`), it imports everything and then forks a host for each request, which is
ready in a tenth of a second. A host is an operating-system process of its own: it is killed and paused by signals,
its memory is gone, and nothing but the stores survives it.

Around every operation of every store there are three boundaries: `home.commit.before` (not sent), `home.commit.sent`
(given to the
kernel, its reply not read; not of SQLite) and `home.commit.after` (answered); beside them the engine's own, of
`perdure.durable.faultpoint.Point`. Only timings are changed otherwise, so that a takeover takes tenths of a second.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import functools
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import perdure.cli.run
import perdure.host.app
from faults import mutants, wires
from perdure.cli import main
from perdure.cli.hosting import host_config
from perdure.durable import faultpoint
from perdure.durable.store import ForeignStore, Store
from perdure.host.app import RunningHost
from perdure.host.config import HostConfig
from perdure.host.dispatcher import Dispatcher
from perdure.host.main import serve
from perdure.host.membership import Membership
from perdure.host.stores import OpenStores, open_stores
from support.patching import put

QUIET = (
    "ping", "announce", "leave", "close", "components", "keep_component", "component", "limits", "namespace_is_home",
)  # fmt: skip
"""Operations that carry nothing of an instance: no boundaries."""
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "restart": signal.SIGSTOP}


def offer(path: str) -> None:
    """Fork a host for each line of JSON that comes over the socket at `path`, and answer with its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(path)
        for line in channel.makefile("r"):
            pid = os.fork()
            if pid == 0:
                channel.close()
                _become_host(json.loads(line))
            channel.sendall(b"%d\n" % pid)


def _become_host(request: dict[str, Any]) -> None:
    """Never returns. `request`: see `faults.hosts.HostRequest`."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no host outlives the test run
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        _watch(request)
        _prepare(request)
        if request["mutant"]:
            mutants.apply(request["mutant"])
        code = main.main(request["argv"])
    finally:
        sys.stderr.flush()
        os._exit(code)


def _watch(request: dict[str, Any]) -> None:
    """Count what is reached, note it, and stop where the request says. One line a point in the `trace`."""
    fault = request["fault"]
    counts: dict[str, int] = {}
    tell = _Teller(request["tell"])
    trace = os.open(request["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if request["trace"] else None

    def reached(point: str) -> None:
        counts[point] = number = counts.get(point, 0) + 1
        if trace is not None:
            os.write(trace, f"{point}:{number}\n".encode())
        if fault is not None and (point, number) == (fault["point"], fault["count"]):
            tell(event=fault["how"], pid=os.getpid())
            os.kill(os.getpid(), _SIGNALS[fault["how"]])

    faultpoint.observe(reached)


class _Teller:
    """Datagrams to the test."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = path

    def __call__(self, **message: object) -> None:
        self._socket.sendto(json.dumps(message).encode(), self._path)


def _prepare(request: dict[str, Any]) -> None:
    told, timing, cache = _Teller(request["tell"]), request["quick"], Path(request["cache"])

    def configured(args: argparse.Namespace, *, manifest: Path, local: bool) -> HostConfig:
        made = host_config(args, manifest=manifest, local=local)
        return dataclasses.replace(made, host=request["name"], cache=cache)

    def serving(config: HostConfig, *, progress: Callable[[str], None], ready: Callable[[RunningHost], None]) -> int:
        def tell_and_go_on(host: RunningHost) -> None:
            ready(host)
            told(event="ready", pid=os.getpid(), url=host.url, metrics=host.metrics_url)

        return serve(config, progress=progress, ready=tell_and_go_on)

    async def opened(config: HostConfig) -> OpenStores:
        home = config.effective.home.name
        stores = await open_stores(config)
        named = {
            provider: cast("Store", _Bounded(store, "home" if provider == home else provider))
            for provider, store in stores.named.items()
        }
        return OpenStores(named[home], {**named})

    put(perdure.cli.run, host_config=configured, serve=serving)
    put(
        perdure.host.app,
        Membership=functools.partial(Membership, interval=timing["announce"], ttl=timing["ttl"]),
        Dispatcher=functools.partial(Dispatcher, interval=timing["dispatch"]),
        open_stores=opened,
    )
    wires.watch()


class _Bounded:
    """A store with a boundary before and after each operation."""

    def __init__(self, store: ForeignStore, label: str) -> None:
        self._store = store
        self._label = label

    def __getattr__(self, operation: str) -> Any:
        method: Callable[..., Awaitable[object]] = getattr(self._store, operation)
        if operation in QUIET:
            return method
        name = f"{self._label}.{operation}"

        async def call(*args: object, **named: object) -> object:
            return await wires.bounded(name, method(*args, **named))

        return call


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    offer(sys.argv[1])

"""A durable `set` over HTTP against the store's own write, and against plain HTTP, in one interleaved run.

The host is a real `perdure run` process with the Rust example. The load generator is this process: aiohttp's client
for HTTP, redis-py's asyncio client for the raw SET, both awaiting each reply. Everything is on loopback.
"""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harness.hosts import Caller, client_session, perdure_host, plain_server
from harness.raw import RawSqlite, raw_redis
from harness.report import Cell, Options, Table, main, progress
from harness.rounds import Contender, Samples, interleave, percentile, ratio, spread
from support.hosts import HostProcess
from support.servers import redis_server

VALUE = b"v" * 64
ARGUMENTS = ("shop", "colour", base64.b64encode(VALUE).decode())
CONNECTIONS = (1, 64)
CALLS = {1: 100, 64: 640}
RAW_CALLS = {1: 500, 64: 2560}
ROUNDS = 7
COLUMNS = (
    *("at once", "what", "µs an operation", "p99 ms", "× raw", "× HTTP"),
    *("server CPU µs", "CPU × raw", "CPU × HTTP", "rounds"),
)
NOTE = (
    "Medians of rounds with (least–greatest); ratios are taken round by round. µs an operation: a round's time over "
    "its operations. × raw, × HTTP: against the first line and against plain HTTP. Server CPU: processor time of the "
    "process that answers HTTP. CPU × raw, CPU × HTTP: processor time of client, that process and the store's server "
    "together, which other programs on the machine change less."
)


@dataclass(frozen=True, slots=True)
class Target:
    """A host under measurement. `name` is what its rows are called."""

    name: str
    host: HostProcess

    @property
    def pid(self) -> int:
        assert self.host.process is not None
        return self.host.process.pid


async def over_redis(policy: str, rounds: int) -> Table:
    """Durable set over a Redis with `appendfsync` set to `policy`."""
    table = Table(f"Durable set over Redis, appendonly yes, appendfsync {policy}, value of {len(VALUE)} B", COLUMNS)
    with redis_server("--appendfsync", policy) as server:
        with perdure_host("bench", f'redis: {{url: "{server.url}"}}') as host, plain_server() as plain:
            for tasks in CONNECTIONS:
                progress(f"Redis {policy}, {tasks} at once")
                async with raw_redis(server.url, tasks, VALUE) as raw:
                    contenders = [Contender("raw SET, redis-py", raw.set, RAW_CALLS[tasks])]
                    if tasks > 1:
                        contenders.append(
                            Contender(f"raw SET, pipelines of {tasks}", raw.set_pipelined, RAW_CALLS[tasks])
                        )
                    assert server.process is not None
                    store = server.process.pid
                    table.rows.extend(await compare(tasks, contenders, [Target("", host)], plain, rounds, store))
    return table


async def over_local_stores(rounds: int) -> Table:
    """Durable set over SQLite, and over the host's memory: what is left when the store costs nothing."""
    title = f"Durable set over SQLite (WAL, synchronous=FULL) and memory, value of {len(VALUE)} B"
    table = Table(title, COLUMNS, note=NOTE)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        raw = stack.enter_context(contextlib.closing(RawSqlite(Path(directory) / "raw.sqlite", VALUE)))
        hosts = [
            Target("SQLite: ", stack.enter_context(perdure_host("bench", "sqlite: {}"))),
            Target("memory: ", stack.enter_context(perdure_host("bench", "memory: {}"))),
        ]
        plain = stack.enter_context(plain_server())
        for tasks in CONNECTIONS:
            progress(f"SQLite and memory, {tasks} at once")
            contenders = [Contender("raw SQLite commit, one at a time", raw.set, CALLS[1])]
            table.rows.extend(await compare(tasks, contenders, hosts, plain, rounds))
    return table


async def compare(
    tasks: int,
    raw: Sequence[Contender],
    targets: Sequence[Target],
    plain: tuple[str, int],
    rounds: int,
    store: int | None = None,
) -> list[Mapping[str, Cell]]:
    """Rows of one interleaved comparison; the first of `raw` is what the others are measured by. `store`: the pid of
    the store's server."""
    url, pid = plain
    floor = "plain HTTP, nothing done"
    contenders, servers, callers = list(raw), {floor: pid}, []
    async with client_session(tasks) as session:
        contenders.append(Contender(floor, Caller(url, session, tasks, ARGUMENTS, keyed=True).run, CALLS[tasks]))
        for target in targets:
            for keyed, label in ((True, "durable set"), (False, "durable set, no key")):
                caller = Caller(target.host.url, session, tasks, ARGUMENTS, keyed)
                contenders.append(Contender(target.name + label, caller.run, CALLS[tasks]))
                servers[target.name + label] = target.pid
                callers.append(caller)
        shared = {"client": os.getpid(), **({} if store is None else {"store": store})}
        found = await interleave(contenders, rounds, processes={**servers, **shared})
        for caller in callers:
            caller.require_durable()
    work = {name: together(samples, [name, *shared]) for name, samples in found.items()}
    first = raw[0].name
    return [
        {
            "at once": tasks,
            "what": name,
            "µs an operation": spread([seconds * 1e6 for seconds in samples.seconds]),
            "p99 ms": percentile(samples.latencies, 99) * 1e3 if samples.latencies else None,
            "× raw": None if name == first else ratio(samples.seconds, found[first].seconds),
            "× HTTP": ratio(samples.seconds, found[floor].seconds) if "durable" in name else None,
            "server CPU µs": median(samples.processor[name]) * 1e6 if name in servers else None,
            "CPU × raw": None if name == first else ratio(work[name], work[first]),
            "CPU × HTTP": ratio(work[name], work[floor]) if "durable" in name else None,
            "rounds": len(samples.seconds),
        }
        for name, samples in found.items()
    ]


def together(samples: Samples, processes: Sequence[str]) -> list[float]:
    """Processor seconds an operation of those of `processes` that were watched, by round."""
    watched = [samples.processor[name] for name in processes if name in samples.processor]
    return [sum(parts) for parts in zip(*watched, strict=True)]


async def benchmark(options: Options) -> list[Table]:
    rounds = options.rounds or ROUNDS
    return [
        await over_redis("everysec", rounds),
        await over_redis("always", rounds),
        await over_local_stores(rounds),
    ]


if __name__ == "__main__":
    main(__doc__, benchmark)

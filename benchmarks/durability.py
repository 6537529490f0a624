"""What durability costs over an instance's life, on one Redis: round trips, bytes, and whether age makes it slower.

The engine runs in this process, without HTTP, over a real server. Goals: a writing invocation whose reads hit its own
writes is 1 round trip, one with a read 2; the last tenth of many invocations of one instance takes at most 1.1 times
the first tenth; recovery takes the same after a hundred and after a million invocations; an idle instance takes at
most 1.2 KB of the server's memory beside its data. `FULL=1` in the environment: a million invocations, which take
some minutes, instead of twenty thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio

from harness.report import Cell, Options, Table, main, progress
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.environment import EngineEnvironment
from perdure.durable.instance import DurableInstance, Invocation
from perdure.durable.policy import BucketCatalog
from perdure.durable.records import WorkerId
from perdure.durable.settings import SnapshotPolicy
from perdure.host.app import guest_interfaces
from perdure.host.instances import InstanceTable
from perdure.providers.redis import RedisConfig, RedisStore
from support.guests import COMPILED, guest
from support.servers import redis_server

SMALL, FULL = 20_000, 1_000_000
AGES = (100, 1_000, 10_000, 100_000, 1_000_000)
IDLE = 1_000
RECOVERIES = 15
NEVER = SnapshotPolicy(replay_ms=1 << 40, entries=1 << 40, bytes=1 << 60)


class Bench:
    """The ledger guest over one Redis."""

    def __init__(self, bound: BoundComponent, store: RedisStore, server: redis.asyncio.Redis) -> None:
        self.server = server
        self._bound = bound
        self._store = store
        self.library = ComponentLibrary(bound, _none)

    def environment(self, snapshots: SnapshotPolicy | None = None) -> EngineEnvironment:
        return EngineEnvironment(
            worker=WorkerId("bench", "ledger"),
            host="bench",
            home=self._store,
            stores={"home": self._store},
            catalog=BucketCatalog((), home="home", undeclared=True),
            snapshots=snapshots or SnapshotPolicy(),
        )

    @asynccontextmanager
    async def table(self, snapshots: SnapshotPolicy | None = None) -> AsyncIterator[InstanceTable]:
        table = InstanceTable(
            self.library, self.environment(snapshots), max_in_memory=1 << 20, max_queued=1000, timeout=60
        )
        saving = asyncio.create_task(table.run())
        try:
            yield table
        finally:
            saving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await saving
            table.close()

    def invocation(self, *steps: object, key: str | None = None) -> Invocation:
        function = next(func for func in self._bound.component.exports if func.name == "run")
        deadline = asyncio.get_running_loop().time() + 60
        return Invocation(function, json.dumps([list(steps)]).encode(), key, deadline)

    async def commands(self) -> int:
        """How many commands clients have sent so far, by the server's own count."""
        found = await self.server.info("commandstats")
        return sum(int(stats["calls"]) for name, stats in found.items() if name.startswith("cmdstat_fcall"))

    async def memory(self) -> int:
        return int((await self.server.info("memory"))["used_memory"])


def made(title: str, columns: tuple[str, ...], rows: list[list[Cell]]) -> Table:
    return Table(title, columns, [dict(zip(columns, row, strict=True)) for row in rows])


async def _none(digest: str) -> BoundComponent | None:
    return None


async def round_trips(bench: Bench) -> Table:
    """Store calls per invocation, counted by the server."""
    rows: list[list[Cell]] = []
    put, own, other = {"put": ["b", "k", "QUJD"]}, {"get": ["b", "k"]}, {"get": ["b", "elsewhere"]}
    kinds: list[tuple[str, list[object], float]] = [
        ("a write", [put], 1),
        ("ten writes", [{"put": ["b", f"k{number}", "QUJD"]} for number in range(10)], 1),
        ("a write, then a read of it", [put, own], 1),
        ("a read, then a write", [other, put], 2),
        ("an increment", [{"add": ["b", "n", 1]}], 2),
        ("memory only", [{"remember": 1}], 1),
    ]
    async with bench.table(NEVER) as table:
        name = secrets.token_hex(4)
        await table.invoke(name, bench.invocation(put))
        for label, steps, goal in kinds:
            before = await bench.commands()
            for number in range(200):
                await table.invoke(name, bench.invocation(*steps, key=f"{label}-{number}"))
            found = (await bench.commands() - before) / 200
            rows.append([label, f"{found:.2f}", f"{goal:.0f}", "yes" if found <= goal else "no"])
    return made("Store calls an invocation", ("invocation", "calls", "goal", "met"), rows)


async def ages(bench: Bench, invocations: int) -> tuple[Table, Table]:
    """One instance, invocation after invocation; recovery measured at each power of ten."""
    name = secrets.token_hex(4)
    times: list[float] = []
    rows: list[list[Cell]] = []
    steps = [{"put": ["b", "k", "QUJD"]}, {"remember": 1}]
    marks = [age for age in AGES if age <= invocations]
    async with bench.table() as table:
        for number in range(1, invocations + 1):
            invocation = bench.invocation(*steps, key=f"call-{number}")
            begun = time.perf_counter()
            await table.invoke(name, invocation)
            times.append(time.perf_counter() - begun)
            if number % 5000 == 0:
                progress(f"{number:,} of {invocations:,} invocations")
            if number in marks:
                await asyncio.sleep(0.05)
                rows.append(await _recovery(bench, table, name, number))
    tenth = len(times) // 10
    first, last = (statistics.median(part) * 1e6 for part in (times[tenth // 10 : tenth], times[-tenth:]))
    flat: list[list[Cell]] = [
        [
            f"{invocations:,}",
            f"{first:.0f}",
            f"{last:.0f}",
            f"{last / first:.2f}",
            "yes" if last <= 1.1 * first else "no",
        ]
    ]
    return (
        made("One instance's invocations", ("invocations", "first tenth µs", "last tenth µs", "ratio", "≤ 1.1"), flat),
        made(
            "Recovery",
            ("past invocations", "journal entries", "snapshot bytes", "to the first answer, ms", "of it claim, ms"),
            rows,
        ),
    )


async def _recovery(bench: Bench, table: InstanceTable, name: str, number: int) -> list[Cell]:
    """From nothing in memory to an instance that answers, with whatever the store holds now."""
    info = await bench.environment().home.instance(name)
    assert info is not None
    found, claims = [], []
    for _ in range(RECOVERIES):
        table.forget(name)
        begun = time.perf_counter()
        instance = await DurableInstance.open(name, bench.library, bench.environment(), deadline=_soon())
        found.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        await bench.environment().home.peek(name)
        claims.append(time.perf_counter() - begun)
        instance.close()
    return [
        f"{number:,}",
        info.journal_entries,
        f"{info.snapshot_bytes:,}",
        f"{statistics.median(found) * 1000:.2f}",
        f"{statistics.median(claims) * 1000:.2f}",
    ]


def _soon() -> float:
    return asyncio.get_running_loop().time() + 60


async def bytes_kept(bench: Bench) -> Table:
    """The server's memory for idle instances, each with one value of 64 bytes in a bucket of all."""
    rows: list[list[Cell]] = []
    value = "QUJD" * 21 + "QQ=="
    async with bench.table(NEVER) as table:
        # What the server keeps once (its functions, buffers of connections) is not an instance's.
        await table.invoke("first", bench.invocation({"put": ["b", "first", value]}))
    for label, calls, keyed, snapshot in (
        ("one call", 1, False, False),
        ("one call with a key", 1, True, False),
        ("ten calls", 10, False, False),
        ("ten calls, then a snapshot", 10, False, True),
    ):
        async with bench.table(NEVER) as table:
            before = await bench.memory()
            name = ""
            for number in range(IDLE):
                name = secrets.token_hex(6)
                for call in range(calls):
                    key = f"{name}-{call}" if keyed else None
                    await table.invoke(name, bench.invocation({"put": ["b", name, value]}, key=key))
                if snapshot:
                    await _snapshot(bench, table, name)
                table.forget(name)
                if number % 200 == 0:
                    progress(f"{label}: {number:,} of {IDLE:,} instances")
            after = await bench.memory()
            data = await bench.environment().home.instance(name)
            assert data is not None
            each = (after - before) / IDLE
            rows.append([label, f"{each:,.0f}", f"{data.journal_bytes / max(1, data.journal_entries):,.0f}"])
    bare = await bench.memory()
    for _ in range(IDLE):
        await bench.server.hset("bare", secrets.token_hex(6), b"v" * 64)
        await bench.server.zadd("bare:k", {secrets.token_hex(6): 0})
    rows.append(["its data alone", f"{(await bench.memory() - bare) / IDLE:,.0f}", ""])
    return made("Bytes of an idle instance in Redis", ("instance", "bytes", "journal bytes a call"), rows)


async def _snapshot(bench: Bench, table: InstanceTable, name: str) -> None:
    await table.control(name, Verb.SNAPSHOT)


async def run(options: Options) -> list[Table]:
    invocations = FULL if os.environ.get("FULL") else SMALL
    with redis_server("--appendfsync", "everysec") as server, Engine(EngineConfig(cache_dir=COMPILED)) as engine:
        component = await Component.load(engine, guest("ledger").read_bytes())
        config = RedisConfig(url=server.url, credentials=lambda: (None, None))
        store = await RedisStore.open(config, WorkerId("bench", "ledger"))
        client = redis.asyncio.Redis(port=server.port)
        bench = Bench(component.bind(guest_interfaces()), store, client)
        try:
            tables = [await round_trips(bench), await bytes_kept(bench), *await ages(bench, invocations)]
        finally:
            bench.library.close()
            await client.aclose()
            await store.close()
    return tables


if __name__ == "__main__":
    main(__doc__, run)

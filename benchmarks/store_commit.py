"""What one invocation costs its store: one commit against one raw write, interleaved on the same server.

Goal: one round trip, and at most 1.5 times a raw SET. Client and server share this machine, so the time a client
sees is mostly the client's own; the second table tells the server's share, by Redis' own count. The load generator is
this process: Perdure's store and redis-py's asyncio client, both awaiting each reply.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from harness.raw import RawRedis, RawSqlite, raw_postgres, raw_redis
from harness.report import Cell, Options, Table, main, progress
from harness.rounds import Contender, Samples, interleave, ratio, spread, spread_over
from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.journal import Entry, Event, encode_entry
from perdure.durable.records import Commit, CommitStatus, OwnerToken, StoredResult, WorkerId
from perdure.durable.store import Store
from perdure.providers.postgres import PostgresConfig, PostgresStore
from perdure.providers.redis import RedisConfig, RedisStore
from perdure.providers.sqlite import SqliteStore
from support.postgres import postgres_server
from support.servers import redis_server

VALUE = b"v" * 64
BUCKET = BucketAddress(Scope.WORKER, "shop")
COMPONENT = "sha256:" + "0" * 64
AT_ONCE = (1, 64)
OPERATIONS = {1: 400, 64: 1920}
SQLITE_OPERATIONS = {1: 100, 64: 640}
POSTGRES_OPERATIONS = {1: 100, 64: 960}
ROUNDS = 9
COLUMNS = ("at once", "what", "µs an operation", "× raw write", "CPU µs", "CPU × raw", "rounds")
NOTE = (
    "µs an operation: a round's time over its operations. CPU: processor time of client and server together, which "
    "other programs on the machine hardly change. Medians with (least–greatest); ratios are taken round by round."
)
SERVER_COLUMNS = ("what", "calls an operation", "reads an operation", "server µs", "× raw SET")


class Committer:
    """`tasks` instances of one Store, each committing `puts` values at a time; `keyed`: with a stored result."""

    def __init__(self, store: Store, tasks: int, *, puts: int = 1, keyed: bool = False) -> None:
        self._store = store
        self._tasks = tasks
        # Keys of a task's own, as the raw writes have them: writers of one key wait for each other at PostgreSQL.
        self._puts = [[Put(BUCKET, f"key-{task}-{number}", VALUE) for number in range(puts)] for task in range(tasks)]
        self._keyed = keyed
        self._names = [f"{secrets.token_hex(4)}-{number}" for number in range(tasks)]
        self._sequences = [0] * tasks
        self._tokens: list[OwnerToken] = []

    async def run(self, count: int) -> None:
        if not self._tokens:
            self._tokens = [(await self._store.claim(name, "bench", "bench")).token for name in self._names]
        await spread_over(self._tasks, count, self._one)

    async def _one(self, task: int) -> None:
        self._sequences[task] += 1
        sequence = self._sequences[task]
        key = f"call-{sequence}" if self._keyed else None
        commit = Commit(
            instance=self._names[task],
            token=self._tokens[task],
            sequence=sequence,
            entry=entry(sequence, key),
            component=COMPONENT,
            effects=self._puts[task],
            result=StoredResult(key, b"f" * 32, b"null") if key else None,
        )
        committed = await self._store.commit(commit)
        if committed.status is not CommitStatus.APPLIED:
            raise RuntimeError(f"the store answered {committed.status}")


def entry(sequence: int, key: str | None) -> bytes:
    """The journal entry of one call of the example's `set`."""
    data, _ = encode_entry(
        Entry(
            sequence=sequence,
            component=COMPONENT,
            function="golem:examples/api.set",
            arguments=b'["shop","colour","' + b"v" * 88 + b'"]',
            key=key,
            start=None,
            events=[Event("keyvalue.open", b"12345678", None), Event("keyvalue.set", b"12345678", None)],
            foreign={},
            time_ms=1_700_000_000_000,
        )
    )
    return data


@asynccontextmanager
async def redis_store(url: str) -> AsyncIterator[RedisStore]:
    store = await RedisStore.open(RedisConfig(url), WorkerId("bench", "store"))
    try:
        yield store
    finally:
        await store.close()


async def over_redis(policy: str, rounds: int) -> list[Table]:
    """As clients see it, and as the server counts it."""
    table = Table(
        f"One commit on Redis, appendonly yes, appendfsync {policy}, value of {len(VALUE)} B", COLUMNS, note=NOTE
    )
    with redis_server("--appendfsync", policy) as server:
        assert server.process is not None
        async with redis_store(server.url) as store:
            for tasks in AT_ONCE:
                progress(f"Redis {policy}, {tasks} at once")
                async with raw_redis(server.url, tasks, VALUE) as raw:
                    contenders = redis_contenders(store, raw, tasks)
                    table.rows.extend(await compare(tasks, contenders, rounds, [os.getpid(), server.process.pid]))
            progress(f"Redis {policy}, the server's share")
            async with raw_redis(server.url, 1, VALUE) as raw:
                share = await server_share(redis_contenders(store, raw, 1), raw, policy)
    return [table, share]


def redis_contenders(store: RedisStore, raw: RawRedis, tasks: int) -> list[Contender]:
    count = OPERATIONS[tasks]
    return [
        Contender("raw SET, redis-py", raw.set, count),
        Contender("commit of 1 write", Committer(store, tasks).run, count),
        Contender("commit of 1 write and a result", Committer(store, tasks, keyed=True).run, count),
        Contender("commit of 10 writes", Committer(store, tasks, puts=10).run, count),
    ]


async def server_share(contenders: list[Contender], raw: RawRedis, policy: str) -> Table:
    """By Redis' statistics: what the server was sent, how often it had to read, and how long a command took it."""
    table = Table(
        f"The server's share, appendfsync {policy}, one at a time",
        SERVER_COLUMNS,
        note="Server µs: Redis' own usec_per_call, without network, parsing and the AOF's write and fsync. It is time "
        "by the clock: a busy machine lengthens it.",
    )
    base = 0.0
    for contender in contenders:
        await contender.run(1)
        await raw.client.config_resetstat()
        await contender.run(contender.count)
        commands: Mapping[str, Mapping[str, float]] = await raw.client.info("commandstats")
        stats: Mapping[str, int] = await raw.client.info("stats")
        used = commands.get("cmdstat_fcall") or commands["cmdstat_set"]
        base = base or used["usec_per_call"]
        table.rows.append(
            {
                "what": contender.name,
                "calls an operation": used["calls"] / contender.count,
                # The reads of the statistics themselves are taken off.
                "reads an operation": (stats["total_reads_processed"] - 2) / contender.count,
                "server µs": used["usec_per_call"],
                "× raw SET": used["usec_per_call"] / base,
            }
        )
    return table


async def over_sqlite(rounds: int) -> Table:
    table = Table(
        f"One commit on SQLite, WAL, synchronous=FULL, value of {len(VALUE)} B",
        COLUMNS,
        note="The raw commits are one at a time always: SQLite has one writer. Perdure's share one fsync.",
    )
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        raw = stack.enter_context(contextlib.closing(RawSqlite(Path(directory) / "raw.sqlite", VALUE)))
        store = await SqliteStore.open(Path(directory) / "store.sqlite", WorkerId("bench", "store"))
        try:
            for tasks in AT_ONCE:
                progress(f"SQLite, {tasks} at once")
                count = SQLITE_OPERATIONS[tasks]
                contenders = [
                    Contender("raw commit, one row", raw.set, SQLITE_OPERATIONS[1]),
                    Contender("commit of 1 write", Committer(store, tasks).run, count),
                    Contender("commit of 1 write and a result", Committer(store, tasks, keyed=True).run, count),
                ]
                table.rows.extend(await compare(tasks, contenders, rounds, [os.getpid()]))
        finally:
            await store.close()
    return table


async def over_postgres(rounds: int) -> Table:
    table = Table(
        f"One commit on PostgreSQL, fsync and synchronous_commit on, value of {len(VALUE)} B",
        COLUMNS,
        note="The raw upserts go over as many connections as Perdure's store has (8), each awaiting its replies. CPU "
        "is the client's alone: the server's processes come and go with its connections.",
    )
    with postgres_server("fsync=on") as server:
        config = PostgresConfig(server.url)
        store = await PostgresStore.open(config, WorkerId("bench", "store"))
        try:
            for tasks in AT_ONCE:
                progress(f"PostgreSQL, {tasks} at once")
                count = POSTGRES_OPERATIONS[tasks]
                async with raw_postgres(server.url, min(tasks, config.connections), VALUE) as raw:
                    contenders = [
                        Contender("raw upsert, asyncpg", raw.set, count),
                        Contender("commit of 1 write", Committer(store, tasks).run, count),
                        Contender("commit of 1 write and a result", Committer(store, tasks, keyed=True).run, count),
                        Contender("commit of 10 writes", Committer(store, tasks, puts=10).run, count),
                    ]
                    table.rows.extend(await compare(tasks, contenders, rounds, [os.getpid()]))
        finally:
            await store.close()
    return table


async def compare(tasks: int, contenders: list[Contender], rounds: int, pids: list[int]) -> list[Mapping[str, Cell]]:
    """Rows of one interleaved comparison with the first; `pids`: the processes that do the work."""
    found = await interleave(contenders, rounds, processes={str(pid): pid for pid in pids})
    raw = found[contenders[0].name]
    raw_processor = processor(raw)
    return [
        {
            "at once": tasks,
            "what": name,
            "µs an operation": spread([seconds * 1e6 for seconds in samples.seconds]),
            "× raw write": None if samples is raw else ratio(samples.seconds, raw.seconds),
            "CPU µs": spread([seconds * 1e6 for seconds in processor(samples)]),
            "CPU × raw": None if samples is raw else ratio(processor(samples), raw_processor),
            "rounds": len(samples.seconds),
        }
        for name, samples in found.items()
    ]


def processor(samples: Samples) -> list[float]:
    """Processor seconds an operation of all processes, by round."""
    return [sum(together) for together in zip(*samples.processor.values(), strict=True)]


async def benchmark(options: Options) -> list[Table]:
    rounds = options.rounds or ROUNDS
    return [
        *await over_redis("everysec", rounds),
        *await over_redis("always", rounds),
        await over_sqlite(rounds),
        await over_postgres(rounds),
    ]


if __name__ == "__main__":
    main(__doc__, benchmark)

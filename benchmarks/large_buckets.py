"""A bucket of many keys, and a large value: how long the stores take, and what it takes of the host's memory.

The engine runs in this process over real stores, without HTTP; a guest of generation 4 lists the whole bucket in one
call, page by page, and keeps every key in its own memory. The host's peak is that of the process above where it was
before the call, the guest's memory and the answer's JSON included. The same is listed without a guest, in pages that
are forgotten. `FULL=1` in the environment: a million keys, which take a minute, instead of fifty thousand.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.report import Cell, Options, Table, main, progress
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.instance import InstanceLimits
from perdure.durable.components import ComponentLibrary
from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.instance import DurableInstance, Invocation
from perdure.durable.policy import BucketCatalog
from perdure.durable.records import ForeignApply, WorkerId
from perdure.durable.store import Store
from perdure.host.app import guest_interfaces
from perdure.providers.postgres import PostgresConfig, PostgresStore
from perdure.providers.redis import RedisConfig, RedisStore
from perdure.providers.sqlite import SqliteStore
from support.guests import COMPILED, guest
from support.postgres import postgres_server
from support.servers import redis_server

SMALL, FULL = 50_000, 1_000_000
VALUE = 10_000_000
WORKER = WorkerId("bench", "large")
BUCKET = BucketAddress(Scope.WORKER, "b")
COLUMNS = (
    "store",
    "keys",
    "fill, s",
    "list, s",
    "keys a second",
    "host's peak, MB",
    "by pages of 1,000, s",
    "its peak, MB",
)
LARGE = ("store", "value, bytes", "set, ms", "get, ms", "host's peak, MB")


class Peak:
    """The process's greatest resident memory since it was made, above what it was then."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def megabytes(self) -> float:
        return (_status("VmHWM") - self._before) / 1e6


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@asynccontextmanager
async def stores() -> AsyncIterator[dict[str, Store]]:
    with redis_server() as redis, postgres_server() as postgres, tempfile.TemporaryDirectory() as directory:
        opened: dict[str, Store] = {
            "SQLite": await SqliteStore.open(Path(directory) / "bench.sqlite", WORKER),
            "Redis": await RedisStore.open(RedisConfig(redis.url), WORKER),
            "PostgreSQL": await PostgresStore.open(PostgresConfig(postgres.url), WORKER),
        }
        yield opened
        for store in opened.values():
            await store.close()


async def _none(digest: str) -> BoundComponent | None:
    return None


def environment(store: Store) -> EngineEnvironment:
    return EngineEnvironment(
        worker=WORKER,
        host="bench",
        home=store,
        stores={"home": store},
        catalog=BucketCatalog((), home="home", undeclared=True),
        limits=InstanceLimits(memory=512 << 20, lifted=1 << 30),
    )


async def call(instance: DurableInstance, bound: BoundComponent, name: str, *args: object) -> bytes:
    function = next(func for func in bound.component.exports if func.name == name)
    soon = asyncio.get_running_loop().time() + 600
    return (await instance.invoke(Invocation(function, json.dumps(args).encode(), None, soon))).body


async def many_keys(name: str, store: Store, bound: BoundComponent, keys: int) -> list[Cell]:
    begun = time.perf_counter()
    for sequence, first in enumerate(range(0, keys, 1000), 1):
        batch = [Put(BUCKET, f"user/{number:012}", b"x" * 16) for number in range(first, min(first + 1000, keys))]
        await store.apply_foreign(ForeignApply("bench", sequence, batch))
    filled = time.perf_counter() - begun
    library = ComponentLibrary(bound, _none)
    soon = asyncio.get_running_loop().time() + 60
    instance = await DurableInstance.open("lister", library, environment(store), deadline=soon)
    peak, begun = Peak(), time.perf_counter()
    body = await call(instance, bound, "keys", "b")
    listed = time.perf_counter() - begun
    high = peak.megabytes()
    if body.count(b'"user/') != keys:
        raise SystemExit(f"{name} listed {body.count(b'user/'):,} keys of {keys:,}")
    instance.close()
    library.close()
    peak, begun = Peak(), time.perf_counter()
    await page_through(name, store, keys)
    return [name, keys, filled, listed, f"{keys / listed:,.0f}", high, time.perf_counter() - begun, peak.megabytes()]


async def page_through(name: str, store: Store, keys: int) -> None:
    """As a client of `GET /v1/buckets/{bucket}/keys` makes the host do it, page by page and without HTTP."""
    cursor, found = None, 0
    while True:
        page = await store.keys(BUCKET, cursor, 1000)
        found += json.dumps(page.keys).count('"user/')
        if page.cursor is None:
            break
        cursor = page.cursor
    if found != keys:
        raise SystemExit(f"{name} gave {found:,} keys of {keys:,} by pages")


async def large_value(name: str, store: Store, bound: BoundComponent) -> list[Cell]:
    library = ComponentLibrary(bound, _none)
    soon = asyncio.get_running_loop().time() + 60
    instance = await DurableInstance.open("reader", library, environment(store), deadline=soon)
    text = base64.b64encode(os.urandom(VALUE)).decode()
    peak, begun = Peak(), time.perf_counter()
    await call(instance, bound, "set", "values", "k", text)
    written = time.perf_counter() - begun
    begun = time.perf_counter()
    body = await call(instance, bound, "get", "values", "k")
    took = time.perf_counter() - begun
    high = peak.megabytes()
    if json.loads(body) != {"ok": text}:
        raise SystemExit(f"{name} gave another value")
    instance.close()
    library.close()
    return [name, VALUE, written * 1e3, took * 1e3, high]


async def benchmark(options: Options) -> list[Table]:
    keys = FULL if os.environ.get("FULL") == "1" else 2_000 if options.quick else SMALL
    listed, valued = Table("Many keys", COLUMNS), Table("A large value", LARGE)
    with Engine(EngineConfig(cache_dir=COMPILED)) as engine:
        component = await Component.load(engine, guest("kv-g4").read_bytes())
        bound = component.bind(guest_interfaces())
        async with stores() as opened:
            for name, store in opened.items():
                progress(f"{name}: {keys:,} keys")
                listed.rows.append(dict(zip(COLUMNS, await many_keys(name, store, bound, keys), strict=True)))
                valued.rows.append(dict(zip(LARGE, await large_value(name, store, bound), strict=True)))
    return [listed, valued]


if __name__ == "__main__":
    main("Many keys in a bucket, and a large value.", benchmark, has_quick=True)

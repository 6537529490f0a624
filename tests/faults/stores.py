"""The stores of a fault scenario: where they are, the manifest that names them, and what they hold at the end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from faults.schedules import Setting
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import HostRecord, WorkerId
from perdure.durable.store import Store
from perdure.host.routing import preferred_host
from perdure.providers.postgres import PostgresConfig, PostgresStore
from perdure.providers.redis import RedisConfig, RedisStore
from perdure.providers.sqlite import SqliteStore
from support.guests import guest
from support.postgres import PostgresServer, postgres_server
from support.servers import RedisServer, redis_server

HOMES = ("redis", "sqlite", "postgres")
HOSTS = ("a", "b", "c")
"""In the order in which instances prefer them."""
_MANIFEST = """\
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {{name: base}}
spec: {{default: true, {home}}}
---
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {{name: away}}
spec: {{redis: {{url: "{away}", timeout: {timeout}}}}}
---
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {{name: {name}}}
spec:
  component: {{url: "file:ledger.wasm"}}
  keyValue:
    undeclaredBuckets: Allow
    buckets: [{{name: far, provider: away}}]
  durability: {{commit: {mode}, maxJournalEntries: {entries}}}
  limits: {{invocationTimeout: 20s}}
  retry: {{maxAttempts: {attempts}, initialInterval: 5ms, maxInterval: 20ms}}
"""


@dataclass
class Place:
    """One Worker of its own: its manifest, its data directory, how its stores are reached.

    `home_url`, `away_url`: as hosts reach them, which a proxy may change. Its buckets: `near` at home, `far` away.
    """

    setting: Setting
    directory: Path
    home_url: str
    away_url: str
    worker: WorkerId = field(default_factory=lambda: WorkerId("default", "w" + uuid.uuid4().hex[:10]))
    timeout: str = "2s"
    entries: int = 6
    attempts: int = 4

    def write(self) -> Path:
        """The manifest's path."""
        self.directory.mkdir(parents=True, exist_ok=True)
        component = self.directory / "ledger.wasm"
        if not component.exists():
            # A copy: a build of the guests meanwhile would make it another component.
            component.write_bytes(guest("ledger").read_bytes())
        home = f'{self.setting.home}: {{url: "{self.home_url}", timeout: {self.timeout}}}'
        text = _MANIFEST.format(
            home="sqlite: {}" if self.setting.home == "sqlite" else home,
            away=self.away_url,
            name=self.worker.name,
            mode=self.setting.mode,
            timeout=self.timeout,
            entries=self.entries,
            attempts=self.attempts,
        )
        path = self.directory / "worker.yaml"
        path.write_text(text)
        return path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def names(self, instances: list[str]) -> dict[str, str]:
        """Instances under names whose preferred hosts are `HOSTS`, in that order."""
        return {instance: _preferring(instance) for instance in instances}

    @asynccontextmanager
    async def opened(self, servers: Servers) -> AsyncIterator[dict[str, Store]]:
        """The stores themselves, past any proxy."""
        away = await RedisStore.open(RedisConfig(servers.away_url), self.worker)
        home = await self._home(servers)
        try:
            yield {"near": home, "far": away}
        finally:
            await home.close()
            await away.close()

    async def _home(self, servers: Servers) -> Store:
        if self.setting.home == "sqlite":
            return await SqliteStore.open(self.data / "base.sqlite", self.worker)
        if self.setting.home == "postgres":
            return await PostgresStore.open(PostgresConfig(servers.home_url("postgres")), self.worker)
        return await RedisStore.open(RedisConfig(servers.home_url("redis")), self.worker)

    async def contents(self, servers: Servers) -> dict[str, dict[str, bytes]]:
        """Of both buckets."""
        found: dict[str, dict[str, bytes]] = {}
        async with self.opened(servers) as stores:
            for bucket, store in stores.items():
                address = BucketAddress(Scope.WORKER, bucket)
                keys = (await store.keys(address, None, 1000)).keys
                values = await store.get_many(address, keys)
                found[bucket] = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        return found

    async def clear(self, servers: Servers) -> None:
        """Leave nothing in servers that others use."""
        async with self.opened(servers) as stores:
            for store in stores.values():
                await store.purge(lambda number: None)


@dataclass
class Servers:
    """The servers of a run. Home and foreign store are different databases or servers: no transaction spans them.
    PostgreSQL is started when it is first asked for."""

    redis: RedisServer
    stack: ExitStack
    postgres: PostgresServer | None = None

    def home_url(self, home: str) -> str:
        """Of a kind of home store; "" of SQLite."""
        if home == "postgres":
            if self.postgres is None:
                self.postgres = self.stack.enter_context(postgres_server("max_connections=200"))
            return self.postgres.url
        return self.redis.url if home == "redis" else ""

    @property
    def away_url(self) -> str:
        return through(self.redis.url, database=1)

    async def restart(self) -> None:
        """SIGKILL, and start again: what was acknowledged is there."""

        def again() -> None:
            for server in (self.redis, self.postgres):
                if isinstance(server, PostgresServer):
                    server.crash()
                elif server is not None:
                    server.stop()
            for server in (self.redis, self.postgres):
                if server is not None:
                    server.start()

        await asyncio.to_thread(again)

    def place(self, setting: Setting, directory: Path) -> Place:
        return Place(setting, directory, self.home_url(setting.home).replace("postgres@", ""), self.away_url)


def through(url: str, *, port: int | None = None, database: int = 0) -> str:
    """The same server by another port, or another database of it."""
    return f"redis://127.0.0.1:{port or urlsplit(url).port}/{database}"


@contextmanager
def servers() -> Iterator[Servers]:
    """Servers of their own, which keep all that they acknowledged."""
    with ExitStack() as stack:
        yield Servers(stack.enter_context(redis_server()), stack)


def _preferring(stem: str) -> str:
    records = [HostRecord(host, host) for host in HOSTS]
    for number in range(10_000):
        name = f"{stem}-{number}"
        if _order(name, records) == list(HOSTS):
            return name
    raise AssertionError("no such name")


def _order(name: str, records: list[HostRecord]) -> list[str]:
    left, order = list(records), []
    while left:
        first = preferred_host(name, left)
        assert first is not None
        order.append(first.host)
        left.remove(first)
    return order

"""The stores of a fault scenario: where they are, the manifest that names them, and what they hold at the end."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from faults.clerk.scenario import LEASE, PEER, TOLD, WATCHED, WATCHER
from faults.schedules import Setting
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import HostRecord, WorkerId
from perdure.durable.store import ForeignStore, Store
from perdure.host.routing import preferred_host
from perdure.providers.etcd import EtcdConfig, EtcdStore
from perdure.providers.nats import NatsConfig, NatsStore
from perdure.providers.postgres import PostgresConfig, PostgresStore
from perdure.providers.redis import RedisConfig, RedisStore
from perdure.providers.sqlite import SqliteStore
from support.guests import guest
from support.postgres import PostgresServer, postgres_server
from support.servers import RedisServer, redis_server
from support.store_servers import EtcdServer, NatsServer, etcd_server, nats_server

HOMES = ("redis", "sqlite", "postgres")
FOREIGN = ("redis", "etcd", "nats")
BESIDE = {"etcd": ("sqlite",), "nats": ("redis",)}
"""Homes that are tried beside a foreign store."""
GUESTS = ("ledger", "clerk")
MEMORIES = ("Instance", "Invocation")
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
spec: {{{away}}}
---
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {{name: {name}}}
spec:
  component: {{url: "file:{guest}.wasm"}}
  keyValue:
    undeclaredBuckets: Allow
    buckets: [{{name: far, provider: away}}{watched}]
    cache: {{vacancyLease: {lease}}}
  http: {{allow: [{allowed}]}}
  durability: {{commit: {mode}, memory: {memory}, maxJournalEntries: {entries}}}
  limits: {{invocationTimeout: 20s}}
  retry: {{maxAttempts: {attempts}, initialInterval: 5ms, maxInterval: 20ms}}
"""


@dataclass
class Place:
    """One Worker of its own: its manifest, its data directory, how its stores are reached.

    `home_url`, `away_url`: as hosts reach them, which a proxy may change. Its buckets: `near` and the cache at home, `far`
    away. `allowed`: whom guests may ask by HTTP.
    """

    setting: Setting
    directory: Path
    home_url: str
    away_url: str
    worker: WorkerId = field(default_factory=lambda: WorkerId("default", "w" + uuid.uuid4().hex[:10]))
    timeout: str = "2s"
    entries: int = 6
    attempts: int = 4
    allowed: str = ""

    def write(self) -> Path:
        """The manifest's path."""
        self.directory.mkdir(parents=True, exist_ok=True)
        component = self.directory / f"{self.setting.guest}.wasm"
        if not component.exists():
            # A copy: a build of the guests meanwhile would make it another component.
            component.write_bytes(guest(self.setting.guest).read_bytes())
        home = f'{self.setting.home}: {{url: "{self.home_url}", timeout: {self.timeout}}}'
        text = _MANIFEST.format(
            home="sqlite: {}" if self.setting.home == "sqlite" else home,
            away=self._away_spec(),
            guest=self.setting.guest,
            watched=self._watched() if self.setting.guest == "clerk" else "",
            lease=f"{LEASE:g}s",
            allowed=json.dumps(self.allowed) if self.allowed else "",
            name=self.worker.name,
            mode=self.setting.mode,
            memory=self.setting.memory,
            timeout=self.timeout,
            entries=self.entries,
            attempts=self.attempts,
        )
        path = self.directory / "worker.yaml"
        path.write_text(text)
        return path

    def _away_spec(self) -> str:
        match self.setting.foreign:
            case "etcd":
                where = f'endpoints: ["{self.away_url}"]'
            case "nats":
                where = f'servers: ["{self.away_url}"]'
            case _:
                where = f'url: "{self.away_url}"'
        return f"{self.setting.foreign}: {{{where}, timeout: {self.timeout}}}"

    def _watched(self) -> str:
        return f", {{name: {WATCHED}, watch: {{instance: {_preferring(WATCHER, HOSTS)}}}}}"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def names(self, instances: list[str]) -> dict[str, str]:
        """Instances under names whose preferred hosts are `HOSTS`, in that order; `PEER` prefers the second one."""
        second, first, *others = HOSTS
        return {name: _preferring(name, (first, second, *others) if name == PEER else HOSTS) for name in instances}

    @asynccontextmanager
    async def opened(self, servers: Servers) -> AsyncIterator[dict[str, ForeignStore]]:
        """The stores themselves, past any proxy, by their buckets."""
        away = await self._away(servers)
        home = await self._home(servers)
        try:
            yield {"far": away, **dict.fromkeys(("near", "cache", WATCHED, TOLD), home)}
        finally:
            await home.close()
            await away.close()

    async def _home(self, servers: Servers) -> Store:
        if self.setting.home == "sqlite":
            return await SqliteStore.open(self.data / "base.sqlite", self.worker)
        if self.setting.home == "postgres":
            return await PostgresStore.open(PostgresConfig(servers.home_url("postgres")), self.worker)
        return await RedisStore.open(RedisConfig(servers.home_url("redis")), self.worker)

    async def _away(self, servers: Servers) -> ForeignStore:
        url = servers.away_url(self.setting.foreign)
        if self.setting.foreign == "etcd":
            return await EtcdStore.open(EtcdConfig((url,)), self.worker)
        if self.setting.foreign == "nats":
            return await NatsStore.open(NatsConfig((url,)), self.worker)
        return await RedisStore.open(RedisConfig(url), self.worker)

    async def contents(self, servers: Servers, buckets: Iterable[str] = ("near", "far")) -> dict[str, dict[str, bytes]]:
        """Of these buckets."""
        found: dict[str, dict[str, bytes]] = {}
        async with self.opened(servers) as stores:
            for bucket in buckets:
                store = stores[bucket]
                address = BucketAddress(Scope.WORKER, bucket)
                keys = (await store.keys(address, None, 1000)).keys
                values = await store.get_many(address, keys)
                found[bucket] = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        return found

    async def clear(self, servers: Servers) -> None:
        """Leave nothing in servers that others use."""
        async with self.opened(servers) as stores:
            for bucket in ("near", "far"):
                await stores[bucket].purge(lambda number: None)


@dataclass
class Servers:
    """The servers of a run. Home and foreign store are different databases or servers: no transaction spans them.
    Others than Redis are started when they are first asked for."""

    redis: RedisServer
    stack: ExitStack
    postgres: PostgresServer | None = None
    etcd: EtcdServer | None = None
    nats: NatsServer | None = None

    def home_url(self, home: str) -> str:
        """Of a kind of home store; "" of SQLite."""
        if home == "postgres":
            if self.postgres is None:
                self.postgres = self.stack.enter_context(postgres_server("max_connections=200"))
            return self.postgres.url
        return self.redis.url if home == "redis" else ""

    def away_url(self, foreign: str) -> str:
        """Of a kind of foreign store."""
        if foreign == "etcd":
            if self.etcd is None:
                self.etcd = self.stack.enter_context(etcd_server())
            return self.etcd.url
        if foreign == "nats":
            if self.nats is None:
                self.nats = self.stack.enter_context(nats_server())
            return self.nats.url
        return through(self.redis.url, database=1)

    async def restart(self) -> None:
        """SIGKILL, and start again: what was acknowledged is there."""

        def again() -> None:
            found = [one for one in (self.redis, self.postgres, self.etcd, self.nats) if one is not None]
            for server in found:
                if isinstance(server, PostgresServer):
                    server.crash()
                else:
                    server.stop()
            for server in found:
                server.start()

        await asyncio.to_thread(again)

    def place(self, setting: Setting, directory: Path) -> Place:
        home = self.home_url(setting.home).replace("postgres@", "")
        return Place(setting, directory, home, self.away_url(setting.foreign))


def through(url: str, *, port: int | None = None, database: int = 0) -> str:
    """The same server by another port, or another database of it."""
    return f"redis://127.0.0.1:{port or urlsplit(url).port}/{database}"


@contextmanager
def servers() -> Iterator[Servers]:
    """Servers of their own, which keep all that they acknowledged."""
    with ExitStack() as stack:
        yield Servers(stack.enter_context(redis_server()), stack)


def _preferring(stem: str, hosts: tuple[str, ...]) -> str:
    records = [HostRecord(host, host) for host in HOSTS]
    for number in range(10_000):
        name = f"{stem}-{number}"
        if _order(name, records) == list(hosts):
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

"""The providers that the suite runs against: the one place to add another.

A world is one backend with the stores opened on it, as several hosts have them. To add a provider, subclass `World`
and name it in `WORLDS`; every test of this folder that takes `store` or `world` then runs against it, and those that
take `away` or `foreign_world`. One of a provider that has buckets only goes into `FOREIGN`, for the latter alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from perdure.durable.records import WorkerId
from perdure.durable.store import ForeignStore, Store
from perdure.providers.memory import MemoryStore, MemoryWorld


@dataclass(frozen=True)
class Setting:
    """What a world may use: `fixture` gives a pytest fixture by its name, `path` is an empty folder of its own."""

    fixture: Callable[[str], object]
    path: Path


AnyStore = TypeVar("AnyStore", bound=ForeignStore)


class ForeignWorld(Generic[AnyStore]):
    """`kind` and `durability`: what `ping` must say. `name`: of the parameter; a provider may have several worlds."""

    name: ClassVar[str]
    kind: ClassVar[str]
    durability: ClassVar[str]

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._opened: list[AnyStore] = []

    async def open(self, worker: WorkerId) -> AnyStore:
        """Another client of the same data."""
        store = await self._open(worker)
        self._opened.append(store)
        return store

    async def _open(self, worker: WorkerId) -> AnyStore:
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Until so much time has passed on the store's clock."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


World = ForeignWorld[Store]
"""One whose stores can be homes."""


class Memory(World):
    """Its clock jumps. `store`: the class to open, another one for a mutant."""

    name = kind = "memory"
    durability = "D0"

    def __init__(self, setting: Setting, store: type[MemoryStore] = MemoryStore) -> None:
        super().__init__(setting)
        self._store = store
        self._ahead = 0.0
        self._world = MemoryWorld(now=lambda: time.time() + self._ahead)

    async def _open(self, worker: WorkerId) -> Store:
        return self._store(self._world, worker)

    async def wait(self, seconds: float) -> None:
        self._ahead += seconds


class Sqlite(World):
    name = kind = "sqlite"
    durability = "D2"

    async def _open(self, worker: WorkerId) -> Store:
        from perdure.providers.sqlite import SqliteStore

        return await SqliteStore.open(self._setting.path / "data.sqlite", worker)


class Redis(World):
    name = kind = "redis"
    durability = "D2"

    async def _open(self, worker: WorkerId) -> Store:
        from perdure.providers.redis import RedisConfig, RedisStore
        from support.servers import RedisServer

        server = self._setting.fixture("redis")
        assert isinstance(server, RedisServer)
        return await RedisStore.open(RedisConfig(server.url), worker)


class RedisCluster(World):
    name = "redis-cluster"
    kind = "redis"
    durability = "D2"

    async def _open(self, worker: WorkerId) -> Store:
        from perdure.providers.redis import RedisConfig, RedisStore

        nodes = self._setting.fixture("redis_nodes")
        assert isinstance(nodes, list)
        return await RedisStore.open(RedisConfig(nodes[0].url, cluster=True), worker)


class Postgres(World):
    """A server without fsync: the suite is about the contract, and so the level is that of a server without it."""

    name = "postgres"
    kind = "postgres"
    durability = "D0"

    async def _open(self, worker: WorkerId) -> Store:
        from perdure.providers.postgres import PostgresConfig, PostgresStore
        from support.postgres import PostgresServer

        server = self._setting.fixture("postgres")
        assert isinstance(server, PostgresServer)
        return await PostgresStore.open(PostgresConfig(server.url), worker)


class Etcd(ForeignWorld[ForeignStore]):
    name = kind = "etcd"
    durability = "D2"

    async def _open(self, worker: WorkerId) -> ForeignStore:
        from perdure.providers.etcd import EtcdConfig, EtcdStore
        from support.store_servers import EtcdServer

        server = self._setting.fixture("etcd")
        assert isinstance(server, EtcdServer)
        return await EtcdStore.open(EtcdConfig((server.url,)), worker)


class Nats(ForeignWorld[ForeignStore]):
    name = kind = "nats"
    durability = "D1"

    async def _open(self, worker: WorkerId) -> ForeignStore:
        from perdure.providers.nats import NatsConfig, NatsStore
        from support.store_servers import NatsServer

        server = self._setting.fixture("nats")
        assert isinstance(server, NatsServer)
        return await NatsStore.open(NatsConfig((server.url,)), worker)


WORLDS: dict[str, type[World]] = {world.name: world for world in (Memory, Sqlite, Redis, RedisCluster, Postgres)}
"""Providers that can be homes."""
FOREIGN: dict[str, type[ForeignWorld[ForeignStore]]] = {world.name: world for world in (Etcd, Nats)}
"""Providers of buckets only."""


def world_of(name: str, request: pytest.FixtureRequest, path: Path) -> World:
    return WORLDS[name](Setting(request.getfixturevalue, path))


def foreign_world_of(name: str, request: pytest.FixtureRequest, path: Path) -> ForeignWorld[Any]:
    """Of either kind, for what is asked of a foreign store."""
    return FOREIGN[name](Setting(request.getfixturevalue, path)) if name in FOREIGN else world_of(name, request, path)

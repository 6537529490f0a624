"""Stores on servers of a test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from perdure.durable.records import WorkerId
from perdure.providers.redis import RedisConfig, RedisStore
from providers.owners import some_worker
from support.servers import RedisServer


@asynccontextmanager
async def opened(
    server: RedisServer, worker: WorkerId | None = None, *, url: str = "", timeout: float = 1.0, **config: Any
) -> AsyncIterator[RedisStore]:
    store = await RedisStore.open(RedisConfig(url or server.url, timeout=timeout, **config), worker or some_worker())
    try:
        yield store
    finally:
        await store.close()

"""The fixtures of the conformance suite; the providers are in `worlds`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from perdure.durable.records import WorkerId
from perdure.durable.store import Store
from providers.worlds import WORLDS, World, world_of
from support.servers import RedisServer, redis_cluster


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = world_of(request.param, request, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def worker() -> WorkerId:
    return WorkerId("ns-" + uuid.uuid4().hex[:8], "carts")


@pytest.fixture
async def store(world: World, worker: WorkerId) -> Store:
    return await world.open(worker)


@pytest.fixture
async def other(world: World, worker: WorkerId) -> Store:
    """A second client of the same Worker."""
    return await world.open(worker)


@pytest.fixture
def wait(world: World) -> Callable[[float], Awaitable[None]]:
    return world.wait


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[list[RedisServer]]:
    """A real Redis Cluster for the whole run."""
    with redis_cluster() as nodes:
        yield nodes

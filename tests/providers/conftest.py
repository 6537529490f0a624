"""The fixtures of the conformance suite; the providers are in `worlds`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from perdure.durable.records import WorkerId
from perdure.durable.store import ForeignStore, Store
from providers.owners import some_worker
from providers.worlds import FOREIGN, WORLDS, ForeignWorld, World, foreign_world_of, world_of


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = world_of(request.param, request, tmp_path)
    yield made
    await made.close()


@pytest.fixture(params=sorted({**WORLDS, **FOREIGN}))
async def foreign_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ForeignWorld[ForeignStore]]:
    """Every provider, as a store of buckets of Workers whose home is another one."""
    made = foreign_world_of(request.param, request, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def away(foreign_world: ForeignWorld[ForeignStore], worker: WorkerId) -> ForeignStore:
    return await foreign_world.open(worker)


@pytest.fixture
async def away_too(foreign_world: ForeignWorld[ForeignStore], worker: WorkerId) -> ForeignStore:
    """A second client of the same Worker."""
    return await foreign_world.open(worker)


@pytest.fixture
def away_wait(foreign_world: ForeignWorld[ForeignStore]) -> Callable[[float], Awaitable[None]]:
    return foreign_world.wait


@pytest.fixture
def worker() -> WorkerId:
    return some_worker()


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

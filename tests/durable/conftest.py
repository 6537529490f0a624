"""Guests that several tests have, and stores for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.durable.store import Store
from perdure.host.app import guest_interfaces
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.providers.sqlite import SqliteStore
from support.engine import WORKER
from support.guests import COMPILED, guest


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(EngineConfig(cache_dir=COMPILED)) as made:
        yield made


async def _bound(engine: Engine, name: str) -> BoundComponent:
    return (await Component.load(engine, guest(name).read_bytes())).bind(guest_interfaces())


@pytest.fixture
async def ledger(engine: Engine) -> BoundComponent:
    return await _bound(engine, "ledger")


@pytest.fixture
async def ledger_next(engine: Engine) -> BoundComponent:
    return await _bound(engine, "ledger-next")


@pytest.fixture
async def errand(engine: Engine) -> BoundComponent:
    return await _bound(engine, "errand")


@pytest.fixture
async def place(engine: Engine) -> BoundComponent:
    return await _bound(engine, "place")


@pytest.fixture(params=["kv-g1", "kv-g2"])
async def legacy(request: pytest.FixtureRequest, engine: Engine) -> BoundComponent:
    """Of the first two generations of the interface."""
    return await _bound(engine, request.param)


@pytest.fixture(params=["memory", "sqlite"])
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A home store; a second one over the same data is never needed, for a host leaves nothing in it."""
    if request.param == "memory":
        yield MemoryStore(MemoryWorld(), WORKER)
        return
    store = await SqliteStore.open(tmp_path / "home.sqlite", WORKER)
    yield store
    await store.close()

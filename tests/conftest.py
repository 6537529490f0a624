"""Fixtures that several layers share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.component.component import Component
from perdure.component.engine import Engine, EngineConfig
from support.guests import COMPILED, python_example
from support.servers import RedisServer, redis_server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """One real Redis for the whole run; tests use Workers of their own names."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def counter() -> Path:
    """The Python example's component. Its compiled code is in COMPILED, as hosts with that cache will find it."""
    path = python_example()
    with Engine(EngineConfig(cache_dir=COMPILED)) as engine, asyncio.Runner() as runner:
        runner.run(Component.load(engine, path.read_bytes()))
    return path

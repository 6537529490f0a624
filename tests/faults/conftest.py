"""Fixtures of the fault tests: servers of their own, a process that forks hosts, and a seed that is printed."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from faults.hosts import Nursery, nursery
from faults.stores import Servers, servers


@pytest.fixture(scope="session")
def seed() -> int:
    """PERDURE_FAULTS_SEED, or one of the moment."""
    found = int(os.environ.get("PERDURE_FAULTS_SEED") or time.time_ns() % 1_000_000)
    print(f"PERDURE_FAULTS_SEED={found}")
    return found


@pytest.fixture(scope="module")
def fault_servers() -> Iterator[Servers]:
    with servers() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts() -> AsyncIterator[Nursery]:
    async with nursery() as made:
        yield made

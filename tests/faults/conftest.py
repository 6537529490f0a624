"""Fixtures of the fault tests: servers of their own, a process that forks hosts, and a seed that is printed."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from faults.hosts import Nursery, nursery
from faults.stores import Servers, servers

_SEED = int(os.environ.get("PERDURE_FAULTS_SEED") or time.time_ns() % 1_000_000)


@pytest.fixture(scope="session")
def seed() -> int:
    """PERDURE_FAULTS_SEED, or one of the moment."""
    return _SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What repeats the choice of faults."""
    terminalreporter.write_line(f"PERDURE_FAULTS_SEED={_SEED}")


@pytest.fixture(scope="module")
def fault_servers() -> Iterator[Servers]:
    with servers() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts() -> AsyncIterator[Nursery]:
    async with nursery() as made:
        yield made

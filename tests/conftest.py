"""Fixtures that several layers share."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.examples import compiled_example
from support.postgres import PostgresServer, postgres_server
from support.servers import RedisServer, redis_cluster, redis_server
from support.store_servers import EtcdServer, NatsServer, etcd_server, nats_server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """One real Redis for the whole run; tests use Workers of their own names."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One real PostgreSQL for the whole run, without fsync; tests use Workers of their own names."""
    with postgres_server("fsync=off") as server:
        yield server


@pytest.fixture(scope="session")
def etcd() -> Iterator[EtcdServer]:
    """One real etcd for the whole run, without fsync; tests use Workers of their own names."""
    with etcd_server("--unsafe-no-fsync") as server:
        yield server


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """One real NATS with JetStream for the whole run; tests use Workers of their own names."""
    with nats_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[list[RedisServer]]:
    """A real Redis Cluster for the whole run."""
    with redis_cluster() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def counter() -> Path:
    """The Python example's component."""
    return compiled_example("counter")


@pytest.fixture(autouse=True)
def forgotten_applications() -> Iterator[None]:
    """aiohttp caches what it builds for handlers and keeps up to 1,024 ended applications by it: with them hosts and all
    their components, which the garbage collector goes through for seconds each time."""
    yield
    if application := sys.modules.get("aiohttp.web_app"):
        application._cached_build_middleware.cache_clear()


def pytest_collection_finish() -> None:
    """Thousands of collected tests live to the end: the garbage collector need not go through them, which holds up
    everything for as long."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests ran in each layer."""
    ended = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    layers = Counter(report.nodeid.split("/")[1] for report in ended if report.when == "call" and "/" in report.nodeid)
    if layers:
        terminalreporter.write_line(
            "by layer: " + ", ".join(f"{name} {count}" for name, count in sorted(layers.items()))
        )

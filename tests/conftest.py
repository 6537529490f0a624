"""Fixtures that several layers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.servers import RedisServer, redis_server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """One real Redis for the whole run; tests use Workers of their own names."""
    with redis_server() as server:
        yield server

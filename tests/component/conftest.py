"""One engine for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.component.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made

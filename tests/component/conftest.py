"""One engine for each test; and guests whose allocator takes its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.component import allocator as allocation
from perdure.component.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(params=["prompt", "slow"])
def allocator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: every allocation by an entry of its own is taken for one that needs more than its slice."""
    if request.param == "slow":
        monkeypatch.setattr(allocation.Allocator, "_prompt", lambda self, future: False)

"""One engine for each test; and guests whose allocator takes its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.component import allocator as allocation
from perdure.component.engine import Engine
from perdure.component.steps import Steps


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(params=["prompt", "slow"])
def allocator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: every allocation is taken for one that needs more than its slices, and for some turns of the loop more,
    so all lowering starts anew."""
    if request.param != "slow":
        return
    answered = allocation.Allocator._still_allocating

    def later(self: allocation.Allocator, future: int) -> Steps[int]:
        yield
        yield
        return (yield from answered(self, future))

    monkeypatch.setattr(allocation, "PATIENCE", 0)
    monkeypatch.setattr(allocation.Allocator, "_still_allocating", later)

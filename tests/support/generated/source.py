"""Where generated things get their choices from: hypothesis (which can shrink them) or a seeded generator (fast)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Source(Protocol):
    """A stream of bounded integers. Small ones should mean simple things, so that hypothesis shrinks well."""

    def integer(self, low: int, high: int) -> int:
        """`low <= n <= high`."""


class Drawn:
    """Choices that hypothesis makes."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))


class Seeded:
    """Choices of a seeded generator: the same seed gives the same things."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1)) if high - low < 1 << 40 else self._wide(low, high)

    def _wide(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


def pick(source: Source, items: Sequence[T]) -> T:
    """One of `items`; the first is the simplest."""
    return items[source.integer(0, len(items) - 1)]


def one_in(source: Source, n: int) -> bool:
    """True once in about `n` times."""
    return source.integer(0, n - 1) == n - 1

"""Who carries out the calls that an instance makes to others: a protocol that the host implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class InstanceCall:
    """`arguments`: JSON, not checked yet. `callers`: digests of those who wait for it. `deadline`: loop time."""

    instance: str
    function: str
    arguments: bytes
    key: str
    callers: tuple[str, ...]
    deadline: float


class Caller(Protocol):
    """Carries calls out, wherever the instance is."""

    async def call(self, call: InstanceCall) -> bytes:
        """The result as JSON. Raises `NoSuchFunction`, `BadRequest` (with `TypeMismatch`) where it was not made, and
        what it ended with."""

"""A store whose caller dies at a chosen operation: before it was sent, or after it was applied and not yet answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from perdure.durable.store import Store

T = TypeVar("T")

WRITES = (
    "claim",
    "commit",
    "applied",
    "apply_foreign",
    "snapshot",
    "halt",
    "take",
    "postpone",
    "verify",
    "result",
    "get_many",
    "enqueue",
    "pending",
    "watch",
    "changes",
    "told",
    "delete_instance",
    "keys",
)


class Crash(BaseException):
    """The process ends here: nothing may catch it and go on."""


class Fuse:
    """Burns down with each operation; `burnt` names where the crash was."""

    def __init__(self, operations: int, *, applied: bool) -> None:
        self.left = operations
        self.applied = applied
        self.burnt: str | None = None

    async def carry_out(self, name: str, operation: Callable[[], Awaitable[T]]) -> T:
        self.left -= 1
        if self.left != 0:
            return await operation()
        if self.applied:
            await operation()
        self.burnt = name
        raise Crash(name)


def crashing(store: Store, fuse: Fuse) -> Store:
    """The store as the process that will die sees it."""
    return cast("Store", _Crashing(store, fuse))


class _Crashing:
    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        async def call(*args: object, **named: object) -> object:
            return await self._fuse.carry_out(name, lambda: method(*args, **named))

        return call


def all_crashing(stores: Mapping[str, Store], fuse: Fuse) -> dict[str, Store]:
    return {name: crashing(store, fuse) for name, store in stores.items()}

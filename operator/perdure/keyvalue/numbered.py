"""The cache of the proposal's first texts, from before the component model had resources: futures and vacancies are
numbers, which functions of their own let go of. Over `cache.py`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import cast

from perdure.component.host import HostFunction
from perdure.component.traps import HostTrap
from perdure.component.types import FuncType, Ok, Variant
from perdure.keyvalue import cache
from perdure.keyvalue.bucket import KeyValueContext
from perdure.keyvalue.cache import CacheContext, Future, Rendezvous, Vacancy

_FUTURES = ("future-get-result", "future-exists-result", "future-result")
_ENTRY = "future-get-or-set-result"


def function(name: str, kind: FuncType) -> HostFunction | None:
    """What a function of such a `cache` does, by its name; None for one that is not in these texts."""
    match name:
        case "get":
            return _kept(cache.get)
        case "exists":
            return _kept(cache.exists)
        case "set":
            return _kept(cache.set_function(kind))
        case "delete":
            return _kept(cache.delete)
        case "get-or-set":
            return _kept(cache.get_or_set)
        case "vacancy-fill":
            return _found(cache.vacancy_fill, Vacancy)
        case "drop-vacancy":
            return _let_go(cache.drop_vacancy, Vacancy)
    for future in (*_FUTURES, _ENTRY):
        if name == f"drop-{future}":
            return _let_go(cache.drop_future, Future, Rendezvous)
        if name == f"listen-to-{future}":
            return _found(cache.listen_to, Future, Rendezvous)
    if name == f"{_ENTRY}-get":
        return _entry
    return _found(cache.got_function(kind), Future) if name.removesuffix("-get") in _FUTURES else None


def _kept(made: Callable[..., object]) -> HostFunction:
    async def keep(ctx: KeyValueContext, *arguments: object) -> int:
        return ctx.keyvalue.shared.keep(await cast("Awaitable[object]", made(ctx, *arguments)))

    return keep


def _found(use: Callable[..., object], *kinds: type) -> HostFunction:
    return lambda ctx, number, *arguments: use(ctx, _of(ctx, number, kinds), *arguments)


def _let_go(drop: Callable[..., object], *kinds: type) -> HostFunction:
    async def let_go(ctx: KeyValueContext, number: int) -> None:
        held = _of(ctx, number, kinds)
        del ctx.keyvalue.shared.numbered[number]
        gate = drop(ctx, held)
        if inspect.isawaitable(gate):
            await gate

    return let_go


async def _entry(ctx: CacheContext, number: int) -> object:
    future = _of(ctx, number, (Future, Rendezvous))
    found = await cache.got_entry(ctx, cast("Future | Rendezvous", future))
    match found:
        case Ok(Variant("vacant", vacancy)):
            return Ok(Variant("vacant", ctx.keyvalue.shared.keep(vacancy)))
    return found


def _of(ctx: KeyValueContext, number: int, kinds: tuple[type, ...]) -> object:
    found = ctx.keyvalue.shared.numbered.get(number)
    if not isinstance(found, kinds):
        raise HostTrap(f"{number} is no such future or vacancy of the guest's")
    return found

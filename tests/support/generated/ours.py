"""The runtime under test behind the same small surface as `stock.StockComponent`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.component.component import Component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.types import FuncType

SECONDS = 20.0


class Host:
    """Resolves imports by function name alone; any resource is provided."""

    def __init__(self, functions: dict[str, Callable[..., object]]) -> None:
        self._functions = functions

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._functions.get(name)

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource()


class OurComponent:
    """A component loaded once, instantiated as often as wanted. Host functions get the context first."""

    def __init__(self, component: Component, functions: dict[str, Callable[..., object]]) -> None:
        self.component = component
        self.bound = component.bind(Host(functions))
        self._exports = {func.name: func for func in component.exports}

    @classmethod
    async def load(cls, engine: Engine, data: bytes, functions: dict[str, Callable[..., object]]) -> OurComponent:
        return cls(await Component.load(engine, data), functions)

    async def instantiate(self, limits: InstanceLimits | None = None, seconds: float = SECONDS) -> Instance:
        return await self.bound.instantiate(None, limits=limits, deadline=_deadline(seconds))

    async def call(self, instance: Instance, name: str, args: tuple[object, ...], seconds: float = SECONDS) -> object:
        return await instance.call(self._exports[name], args, deadline=_deadline(seconds))


def _deadline(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds

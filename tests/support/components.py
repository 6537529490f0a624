"""Components written for one test, and what it takes to run them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from wasmtime import wat2wasm

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.plan import ExportedFunc
from perdure.component.types import FuncType

LIBC = """
  (core module $Libc
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
      (local.get $at)))
  (core instance $libc (instantiate $Libc))
"""
"""A core instance `$libc` with a memory of four pages and an allocator from 4096 upwards."""

MEMORY = '(memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))'
"""The canonical options that go with it."""


class Host:
    """An `ImportResolver` over functions by name (`-` or `_`), and destructors of resources by name."""

    def __init__(self, functions: dict[str, Callable[..., object]], drops: dict[str, Callable[..., object]]) -> None:
        self._functions = functions
        self._drops = drops

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._functions.get(name) or self._functions.get(name.replace("-", "_"))

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource(self._drops.get(name))


@dataclass
class Running:
    """An instance with its exports by name."""

    instance: Instance
    exports: dict[str, ExportedFunc]

    async def call(self, name: str, *args: object, seconds: float = 20) -> object:
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.instance.call(self.exports[name], args, deadline=deadline)


async def load(engine: Engine, wat: str) -> Component:
    """The component that `wat` describes; `LIBC` and `MEMORY` in it are replaced."""
    return await Component.load(engine, bytes(wat2wasm(wat.replace("MEMORY", MEMORY).replace("LIBC", LIBC))))


async def run(
    engine: Engine,
    wat: str,
    *,
    limits: InstanceLimits | None = None,
    drops: dict[str, Callable[..., object]] | None = None,
    **functions: Callable[..., object],
) -> Running:
    """An instance of the component that `wat` describes, over these functions."""
    component = await load(engine, wat)
    bound: BoundComponent = component.bind(Host(functions, drops or {}))
    instance = await bound.instantiate(None, limits=limits)
    return Running(instance, {func.path: func for func in component.exports})

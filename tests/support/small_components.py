"""Components of one or a few core modules, written in the test that needs them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from wasmtime import wat2wasm

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance
from perdure.component.snapshot import Snapshots
from perdure.component.types import FuncType

_EXPORT = re.compile(r'\(func (?:\$\w+ )?\(export "([a-z-]+)"\)((?: \(param \w+\))*)((?: \(result \w+\))?)')
_TYPES = {"i32": "u32", "i64": "u64", "f32": "f32", "f64": "f64"}


def component(module: str, *, before: str = "", imports: str = "") -> bytes:
    """Lifts each function that `module` exports as `(func (export "name") (param i32) … (result i64) …`.

    `before` and `imports`: component text ahead of the module, and the arguments of its instantiation.
    """
    lifts = []
    for name, params, result in _EXPORT.findall(module):
        given = " ".join(f'(param "p{n}" {_TYPES[kind]})' for n, kind in enumerate(re.findall(r"param (\w+)", params)))
        made = "".join(f"(result {_TYPES[kind]})" for kind in re.findall(r"result (\w+)", result))
        lifts.append(f'(func (export "{name}") {given} {made} (canon lift (core func $i "{name}")))')
    fields = module.strip().removeprefix("(module").removesuffix(")")
    core = f"(core module $m {fields}) (core instance $i (instantiate $m {imports}))"
    text = f"(component {before} {core} {' '.join(lifts)})"
    return bytes(wat2wasm(text))


class Functions:
    """A resolver over a dictionary."""

    def __init__(self, functions: dict[str, Callable[..., object]]) -> None:
        self._functions = functions

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._functions.get(name)

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource()


@dataclass
class Small:
    """A bound component."""

    bound: BoundComponent

    async def instance(self) -> Instance:
        return await self.bound.instantiate(None)

    async def snapshots(self) -> Snapshots:
        return await Snapshots.prepare(self.bound)

    async def call(self, instance: Instance, name: str, *args: object) -> object:
        func = next(func for func in self.bound.component.exports if func.name == name)
        return await instance.call(func, args)


@asynccontextmanager
async def small(data: bytes, **functions: Callable[..., object]) -> AsyncIterator[Small]:
    with Engine() as engine:
        yield Small((await Component.load(engine, data)).bind(Functions(functions)))

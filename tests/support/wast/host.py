"""What wasmtime's own scripts expect of their host: the instance `host` and a function at the top level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.component.host import HostFunction, HostResource
from perdure.component.types import BorrowType, FuncType, OwnType, PrimType, ValueType


class Resource:
    """A resource of the host; its representation is what its constructor got."""

    def __init__(self, number: int) -> None:
        self.number = number


class ScriptHost:
    """An `ImportResolver`. One for each script: it counts what is dropped."""

    def __init__(self) -> None:
        self._drops = 0
        self._last = 0
        self._functions: dict[tuple[str, str], tuple[str, Callable[..., object]]] = {
            ("", "host-return-two"): ("-> u32", lambda cx: 2),
            ("", "host-echo-u32"): ("u32 -> u32", lambda cx, n: n),
            ("host", "return-three"): ("-> u32", lambda cx: 3),
            ("host.nested", "return-four"): ("-> u32", lambda cx: 4),
            ("host", "return-hi"): ("-> string", lambda cx: "hi"),
            ("host", "return-two-slowly"): ("-> s32", self._slowly),
            ("host", "echo-slowly"): ("u32 -> u32", self._slowly),
            ("host", "[constructor]resource1"): ("u32 -> own resource1", lambda cx, n: Resource(n)),
            ("host", "[static]resource1.assert"): ("own resource1, u32 ->", self._is),
            ("host", "[static]resource1.last-drop"): ("-> u32", lambda cx: self._last),
            ("host", "[static]resource1.drops"): ("-> u32", lambda cx: self._drops),
            ("host", "[method]resource1.simple"): ("borrow resource1, u32 ->", self._is),
            ("host", "[method]resource1.take-borrow"): ("borrow resource1, borrow resource1 ->", lambda cx, a, b: None),
            ("host", "[method]resource1.take-own"): ("borrow resource1, own resource1 ->", lambda cx, a, b: None),
        }

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        signature, function = self._functions.get((interface, name), ("", None))
        return function if signature == _signature(type) else None

    def resource(self, interface: str, name: str) -> HostResource | None:
        if interface == "host" and name == "resource1":
            return HostResource(self._drop)
        return HostResource() if interface == "host" and name in ("resource2", "resource1-again") else None

    def _drop(self, cx: object, resource: Resource) -> None:
        self._drops += 1
        self._last = resource.number

    def _is(self, cx: object, resource: Resource, number: int) -> None:
        assert resource.number == number

    async def _slowly(self, cx: object, number: int = 2) -> int:
        await asyncio.sleep(0)
        return number


def _signature(t: FuncType) -> str:
    params = ", ".join(_word(kind) for _, kind in t.params)
    result = _word(t.result) if t.result is not None else ""
    return f"{params} -> {result}".strip()


def _word(t: ValueType) -> str:
    match t:
        case PrimType(name):
            return name
        case OwnType(resource):
            return f"own {resource.name}"
        case BorrowType(resource):
            return f"borrow {resource.name}"
        case _:
            return "?"

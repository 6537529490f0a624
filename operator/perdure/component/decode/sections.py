"""Sections of a component (component-model `Binary.md`): bytes in, definitions out.

Features of WASI 0.3 are refused by name as soon as a definition would need them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from perdure.component.decode import definitions as d
from perdure.component.decode.reader import Reader
from perdure.component.decode.typedefs import (
    alias,
    core_sort,
    def_type,
    extern_name,
    extern_type,
    skip_core_type,
    sort_index,
)
from perdure.errors import ComponentError, ComponentUnsupported

_MAGIC = b"\0asm"
_COMPONENT = b"\x0d\0\x01\0"
_CORE = b"\x01\0\0\0"
_MAX_DEPTH = 32


def decode_component(data: bytes) -> tuple[d.Definition, ...]:
    """All definitions of the component in order.

    Raises `ComponentError` (not a component, malformed) or `ComponentUnsupported`.
    """
    if data[:4] != _MAGIC:
        raise ComponentError("not WebAssembly: it does not begin with the bytes \\0asm")
    if data[4:8] == _CORE:
        raise ComponentError(
            "a core module, not a component: build for the target wasm32-wasip2, or wrap it with "
            "`wasm-tools component new`"
        )
    return _component(Reader(data), 0)


def _component(r: Reader, depth: int) -> tuple[d.Definition, ...]:
    if depth > _MAX_DEPTH:
        raise r.fail("components nested too deeply")
    if r.take(4) != _MAGIC or r.take(4) != _COMPONENT:
        raise r.fail("unknown version of the component format")
    definitions: list[d.Definition] = []
    while r.left:
        section = r.byte()
        body = r.sub(r.u32())
        if section == 0:
            continue
        if section == 1:
            definitions.append(d.CoreModuleDef(body.take(body.left)))
        elif section == 4:
            definitions.append(d.ComponentDef(_component(body, depth + 1)))
        elif section in _ITEMS:
            definitions.extend(body.vector(_ITEMS[section]))
            if body.left:
                raise body.fail("bytes left over in a section")
        elif section == 9:
            raise ComponentUnsupported("the component has a start function with values", feature="component start")
        elif section == 12:
            raise ComponentUnsupported("the component defines values", feature="values")
        else:
            raise r.fail(f"unknown section {section}")
    return tuple(definitions)


def _core_instance(r: Reader) -> d.Definition:
    kind = r.byte()
    if kind == 0:
        return d.CoreInstantiate(r.u32(), r.vector(_core_argument))
    if kind == 1:
        return d.CoreExports(r.vector(lambda s: (s.name(), d.SortIndex(core_sort(s), s.u32()))))
    raise r.fail("unknown core instance")


def _core_argument(r: Reader) -> tuple[str, int]:
    name = r.name()
    if r.byte() != 0x12:
        raise r.fail("a core argument that is not an instance")
    return name, r.u32()


def _instance(r: Reader) -> d.Definition:
    kind = r.byte()
    if kind == 0:
        return d.Instantiate(r.u32(), r.vector(lambda s: (s.name(), sort_index(s))))
    if kind == 1:
        return d.Exports(r.vector(lambda s: (extern_name(s), sort_index(s))))
    raise r.fail("unknown instance")


def _import(r: Reader) -> d.Definition:
    return d.Import(extern_name(r), extern_type(r))


def _export(r: Reader) -> d.Definition:
    export = d.Export(extern_name(r), sort_index(r))
    r.optional(extern_type)
    return export


def _type(r: Reader) -> d.Definition:
    return d.TypeDef(def_type(r))


def _canon(r: Reader) -> d.Definition:
    kind = r.byte()
    if kind == 0x00:
        _zero(r)
        return d.CanonLift(r.u32(), _options(r), r.u32())
    if kind == 0x01:
        _zero(r)
        return d.CanonLower(r.u32(), _options(r))
    resource_ops: dict[int, Literal["new", "drop", "rep"]] = {0x02: "new", 0x03: "drop", 0x04: "rep"}
    if kind in resource_ops:
        return d.CanonResource(resource_ops[kind], r.u32())
    feature = _LATER_CANONS.get(kind, f"built-in {kind:#x}")
    raise ComponentUnsupported(
        f"the component uses {feature}, which Perdure does not support (WASI 0.3)", feature=feature
    )


def _zero(r: Reader) -> None:
    if r.byte() != 0:
        raise r.fail("unknown canonical definition")


def _options(r: Reader) -> d.RawOptions:
    options = d.RawOptions()
    for _ in range(r.u32()):
        kind = r.byte()
        match kind:
            case 0x00:
                options = dataclasses.replace(options, encoding="utf8")
            case 0x01:
                options = dataclasses.replace(options, encoding="utf16")
            case 0x02:
                options = dataclasses.replace(options, encoding="latin1+utf16")
            case 0x03:
                options = dataclasses.replace(options, memory=r.u32())
            case 0x04:
                options = dataclasses.replace(options, realloc=r.u32())
            case 0x05:
                options = dataclasses.replace(options, post_return=r.u32())
            case 0x06 | 0x07:
                raise ComponentUnsupported(
                    "the component uses async lift or lower, which Perdure does not support (WASI 0.3)",
                    feature="async functions",
                )
            case _:
                feature = "GC types" if kind in _GC_OPTIONS else f"canonical option {kind:#x}"
                raise ComponentUnsupported(f"the component uses the canonical option {kind:#x}", feature=feature)
    return options


_GC_OPTIONS = (0x08, 0x09)
_LATER_CANONS = {
    0x05: "task.cancel",
    0x06: "subtask.cancel",
    0x07: "resource.drop async",
    0x08: "backpressure.set",
    0x09: "task.return",
    0x0A: "context.get",
    0x0B: "context.set",
    0x0C: "thread.yield",
    0x0D: "subtask.drop",
    **dict.fromkeys(range(14, 21), "stream<T>"),
    **dict.fromkeys(range(21, 28), "future<T>"),
    **dict.fromkeys(range(28, 31), "error-context"),
    **dict.fromkeys(range(31, 36), "waitable-set"),
    0x24: "backpressure.inc",
    0x25: "backpressure.dec",
    **dict.fromkeys(range(38, 72), "threads"),
}
_ITEMS: dict[int, Callable[[Reader], d.Definition]] = {
    2: _core_instance,
    3: skip_core_type,
    5: _instance,
    6: alias,
    7: _type,
    8: _canon,
    10: _import,
    11: _export,
}

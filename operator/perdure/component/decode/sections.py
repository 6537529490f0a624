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
    func_result,
    skip_core_type,
    sort_index,
    val_ref,
)
from perdure.errors import ComponentError, ComponentUnsupported

_MAGIC = b"\0asm"
_COMPONENT = b"\x0d\0\x01\0"
_CORE = b"\x01\0\0\0"
MAX_DEPTH = 32
"""Components within one another."""
FORWARDING = "forwarding of streams and futures"
CUSTOM_SECTIONS = ("component-name", "package-docs", "producers")
"""Those that `custom.py` reads."""


def decode_component(data: bytes, refusals: list[ComponentUnsupported] | None = None) -> tuple[d.Definition, ...]:
    """All definitions of the component in order.

    Raises `ComponentError` (not a component, malformed) or `ComponentUnsupported`. Where `refusals` is given, it gets
    what is unsupported instead, as far as decoding can go on behind it: what is returned then is for reading only.
    """
    check_preamble(data)
    return _component(Reader(data, refusals=refusals), 0)


def check_preamble(data: bytes) -> None:
    """Raises `ComponentError` for what is no component at all, in words for who has built it."""
    if data[:4] != _MAGIC:
        raise ComponentError("not WebAssembly: it does not begin with the bytes \\0asm")
    if data[4:8] == _CORE:
        raise ComponentError(
            "a core module, not a component: build for the target wasm32-wasip2, or wrap it with "
            "`wasm-tools component new`"
        )
    if data[4:8] != _COMPONENT:
        raise ComponentError("malformed component: unknown version of the component format at byte 0x4")


def _component(r: Reader, depth: int) -> tuple[d.Definition, ...]:
    if depth > MAX_DEPTH:
        raise r.too_deep("components within one another", MAX_DEPTH)
    if r.take(4) != _MAGIC or r.take(4) != _COMPONENT:
        raise r.fail("unknown version of the component format")
    definitions: list[d.Definition] = []
    while r.left:
        section = r.byte()
        body = r.sub(r.u32())
        if section == 0:
            definitions.extend(_custom(body))
        elif section == 1:
            definitions.append(d.CoreModuleDef(body.take(body.left)))
        elif section == 4:
            definitions.append(d.ComponentDef(_component(body, depth + 1)))
        elif section in _ITEMS:
            definitions.extend(body.vector(_ITEMS[section]))
            if body.left:
                raise body.fail("bytes left over in a section")
        elif section == 9:
            r.refuse("the component has a start function with values", "component start")
        elif section == 12:
            r.refuse("the component defines values", "values")
        else:
            raise r.fail(f"unknown section {section}")
    return tuple(definitions)


def _custom(r: Reader) -> list[d.Definition]:
    """A custom section has no meaning, so one whose name cannot be read is the validator's business."""
    try:
        name = r.name()
    except ComponentError:
        return []
    return [d.Custom(name, r.take(r.left))] if name in CUSTOM_SECTIONS else []


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
    return d.Export(extern_name(r), sort_index(r), r.optional(extern_type))


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
    return _later_canon(r, kind)


def _later_canon(r: Reader, kind: int) -> d.Definition:
    feature, immediates = _LATER_CANONS.get(kind, (f"built-in {kind:#x}", None))
    detail = f"the component uses {feature}, which Perdure does not support (WASI 0.3)"
    if immediates is None:
        raise ComponentUnsupported(detail, feature=feature)
    r.refuse(detail, feature)
    for immediate in immediates:
        match immediate:
            case "index":
                r.u32()
            case "flag":
                r.byte()
            case "type":
                val_ref(r)
            case "result":
                func_result(r)
            case "options":
                _options(r)
    return d.CanonLater(feature)


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
                r.refuse(
                    "the component uses async lift or lower, which Perdure does not support (WASI 0.3)",
                    "async functions",
                )
                if kind == 0x07:
                    r.u32()
            case _:
                feature = "GC types" if kind in _GC_OPTIONS else f"canonical option {kind:#x}"
                raise ComponentUnsupported(f"the component uses the canonical option {kind:#x}", feature=feature)
    return options


_GC_OPTIONS = (0x08, 0x09)
# Each with its immediates, so that what follows can be read ("Canonical Definitions").
_LATER_CANONS: dict[int, tuple[str, tuple[str, ...] | None]] = {
    0x05: ("task.cancel", ()),
    0x06: ("subtask.cancel", ("flag",)),
    0x07: ("resource.drop async", ("index",)),
    0x08: ("backpressure.set", ()),
    0x09: ("task.return", ("result", "options")),
    0x0A: ("context.get", ("type", "index")),
    0x0B: ("context.set", ("type", "index")),
    0x0C: ("thread.yield", ("flag",)),
    0x0D: ("subtask.drop", ()),
    **{
        first + offset: (feature, immediates)
        for first, feature in ((0x0E, "stream<T>"), (0x15, "future<T>"))
        for offset, immediates in enumerate(
            (
                ("index",),
                ("index", "options"),
                ("index", "options"),
                ("index", "flag"),
                ("index", "flag"),
                ("index",),
                ("index",),
            )
        )
    },
    0x1C: ("error-context", ("options",)),
    0x1D: ("error-context", ("options",)),
    0x1E: ("error-context", ()),
    0x1F: ("waitable-set", ()),
    0x20: ("waitable-set", ("flag", "index")),
    0x21: ("waitable-set", ("flag", "index")),
    0x22: ("waitable-set", ()),
    0x23: ("waitable-set", ()),
    0x24: ("backpressure.inc", ()),
    0x25: ("backpressure.dec", ()),
    0x26: ("threads", ()),
    0x27: ("threads", ("index", "index")),
    0x28: ("threads", ()),
    **dict.fromkeys(range(0x29, 0x2E), ("threads", ("flag",))),
    0x2E: (FORWARDING, None),
    0x2F: (FORWARDING, None),
    **dict.fromkeys(range(0x40, 0x48), ("threads", None)),
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

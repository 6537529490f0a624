"""Type definitions and declarations (component-model `Binary.md`, "Type Definitions")."""

from __future__ import annotations

from perdure.component.decode import definitions as d
from perdure.component.decode.reader import Reader
from perdure.errors import ComponentUnsupported

PRIMITIVES = {
    0x7F: "bool",
    0x7E: "s8",
    0x7D: "u8",
    0x7C: "s16",
    0x7B: "u16",
    0x7A: "s32",
    0x79: "u32",
    0x78: "s64",
    0x77: "u64",
    0x76: "f32",
    0x75: "f64",
    0x74: "char",
    0x73: "string",
}
_CORE_SORTS: dict[int, d.Sort] = {
    0x00: "core func",
    0x01: "core table",
    0x02: "core memory",
    0x03: "core global",
    0x04: "core tag",
    0x10: "core type",
    0x11: "core module",
    0x12: "core instance",
}
_SORTS: dict[int, d.Sort] = {1: "func", 2: "value", 3: "type", 4: "component", 5: "instance"}
_MAX_DEPTH = 64
_GC_TYPES = (0x00, 0x4E, 0x4F, 0x5E, 0x5F)
_LATER = {
    0x67: "fixed-length lists",
    0x66: "stream<T>",
    0x65: "future<T>",
    0x64: "error-context",
    0x63: "map<K, V>",
}


def core_sort(r: Reader) -> d.Sort:
    byte = r.byte()
    if byte not in _CORE_SORTS:
        raise r.fail(f"unknown core sort {byte:#x}")
    return _CORE_SORTS[byte]


def sort(r: Reader) -> d.Sort:
    byte = r.byte()
    if byte == 0:
        return core_sort(r)
    if byte not in _SORTS:
        raise r.fail(f"unknown sort {byte:#x}")
    return _SORTS[byte]


def sort_index(r: Reader) -> d.SortIndex:
    return d.SortIndex(sort(r), r.u32())


def val_ref(r: Reader) -> d.ValRef:
    byte = r.peek()
    if byte in PRIMITIVES:
        r.byte()
        return d.PrimRef(PRIMITIVES[byte])
    if byte == 0x64:
        r.byte()
        return d.PrimRef("error-context")
    index = r.signed(5)
    if index < 0:
        raise r.fail("unknown value type")
    return d.TypeIndex(index)


def extern_name(r: Reader) -> str:
    """`importname'`/`exportname'`: plain, or with attributes that do not concern linking."""
    kind = r.byte()
    name = r.name()
    if kind == 2:
        r.vector(lambda s: (s.byte(), s.name()))
    elif kind > 2:
        raise r.fail(f"unknown kind of name {kind:#x}")
    return name


def _labelled(r: Reader) -> tuple[str, d.ValRef]:
    return r.name(), val_ref(r)


def _case(r: Reader) -> tuple[str, d.ValRef | None]:
    name, payload = r.name(), r.optional(val_ref)
    if r.byte() != 0:
        raise r.fail("a variant case that refines another")
    return name, payload


def func_result(r: Reader) -> d.ValRef | None:
    kind = r.byte()
    if kind == 0:
        return val_ref(r)
    if kind == 1 and r.byte() == 0:
        return None
    raise r.fail("named results")


def extern_type(r: Reader) -> d.ExternType:
    kind = r.byte()
    if kind == 0:
        if r.byte() != 0x11:
            raise r.fail("unknown core extern type")
        return d.ExternType("core module", r.u32())
    if kind == 1:
        return d.ExternType("func", r.u32())
    if kind == 3:
        bound = r.byte()
        if bound == 0:
            return d.ExternType("type-eq", r.u32())
        if bound == 1:
            return d.ExternType("type-sub-resource")
        raise r.fail("unknown type bound")
    if kind == 4:
        return d.ExternType("component", r.u32())
    if kind == 5:
        return d.ExternType("instance", r.u32())
    raise r.fail("value imports" if kind == 2 else f"unknown extern type {kind:#x}")


def alias(r: Reader) -> d.Definition:
    kind_of = sort(r)
    target = r.byte()
    if target == 0:
        return d.AliasExport(kind_of, r.u32(), r.name())
    if target == 1:
        return d.AliasCoreExport(kind_of, r.u32(), r.name())
    if target == 2:
        return d.AliasOuter(kind_of, r.u32(), r.u32())
    raise r.fail("unknown alias target")


def skip_core_type(r: Reader, depth: int = 0) -> d.CoreTypeDef:
    """Walk over a `core:deftype`: a function type or a module type."""
    form = r.byte()
    if form == 0x60:
        r.vector(_skip_core_value_type)
        r.vector(_skip_core_value_type)
    elif form in _GC_TYPES:
        raise ComponentUnsupported("the component declares garbage-collected core types", feature="GC types")
    elif form == 0x50:
        if depth >= _MAX_DEPTH:
            raise r.too_deep("core types within one another", _MAX_DEPTH)
        r.vector(lambda s: _skip_module_declaration(s, depth + 1))
    else:
        raise r.fail(f"unsupported core type {form:#x}")
    return d.CoreTypeDef()


def _skip_module_declaration(r: Reader, depth: int) -> None:
    kind = r.byte()
    if kind == 0:
        r.name()
        r.name()
        skip_core_extern(r)
    elif kind == 1:
        skip_core_type(r, depth)
    elif kind == 2:
        core_sort(r)
        r.byte()
        r.u32()
        r.u32()
    elif kind == 3:
        r.name()
        skip_core_extern(r)
    else:
        raise r.fail("unknown module declaration")


def skip_core_extern(r: Reader) -> str:
    """Walk over a core `importdesc`; returns its kind."""
    kind = r.byte()
    if kind == 0:
        r.u32()
        return "func"
    if kind == 1:
        _skip_core_value_type(r)
        _skip_limits(r)
        return "table"
    if kind == 2:
        _skip_limits(r)
        return "memory"
    if kind == 3:
        _skip_core_value_type(r)
        r.byte()
        return "global"
    if kind == 4:
        r.byte()
        r.u32()
        return "tag"
    raise r.fail(f"unsupported core import kind {kind:#x}")


def _skip_core_value_type(r: Reader) -> None:
    """One `core:valtype`; typed references name a heap type."""
    if r.byte() in (0x63, 0x64):
        r.signed(5)


def _skip_limits(r: Reader) -> None:
    flags = r.byte()
    if flags & ~0x07:
        raise r.fail("unsupported limits")
    r.u64()
    if flags & 1:
        r.u64()


def declaration(r: Reader, depth: int) -> d.Definition:
    """One `instancedecl` or `componentdecl`."""
    kind = r.byte()
    if kind == 0:
        return skip_core_type(r, depth)
    if kind == 1:
        return d.TypeDef(def_type(r, depth))
    if kind == 2:
        return alias(r)
    if kind == 3:
        return d.Import(extern_name(r), extern_type(r))
    if kind == 4:
        return d.ExportDecl(extern_name(r), extern_type(r))
    raise r.fail("unknown declaration")


def def_type(r: Reader, depth: int = 0) -> d.DefType:  # noqa: C901 - one branch a form of the grammar
    """`deftype`. Nesting is bounded."""
    if depth > _MAX_DEPTH:
        raise r.too_deep("types within one another", _MAX_DEPTH)
    form = r.byte()
    if form in PRIMITIVES:
        return d.PrimDef(PRIMITIVES[form])
    if form in _LATER:
        _skip_later(r, form)
        return d.UnsupportedDef(_LATER[form])
    match form:
        case 0x72:
            return d.RecordDef(r.vector(_labelled))
        case 0x71:
            return d.VariantDef(r.vector(_case))
        case 0x70:
            return d.ListDef(val_ref(r))
        case 0x6F:
            return d.TupleDef(r.vector(val_ref))
        case 0x6E:
            return d.NamesDef("flags", r.vector(Reader.name))
        case 0x6D:
            return d.NamesDef("enum", r.vector(Reader.name))
        case 0x6B:
            return d.OptionDef(val_ref(r))
        case 0x6A:
            return d.ResultDef(r.optional(val_ref), r.optional(val_ref))
        case 0x69:
            return d.HandleDef("own", r.u32())
        case 0x68:
            return d.HandleDef("borrow", r.u32())
        case 0x40:
            return d.FuncDef(r.vector(_labelled), func_result(r))
        case 0x43:
            r.vector(_labelled)
            func_result(r)
            return d.UnsupportedDef("async functions")
        case 0x41:
            return d.ComponentTypeDef(r.vector(lambda s: declaration(s, depth + 1)))
        case 0x42:
            return d.InstanceTypeDef(r.vector(lambda s: declaration(s, depth + 1)))
        case 0x3F:
            if r.byte() != 0x7F:
                raise r.fail("a resource whose representation is not i32")
            return d.ResourceDef(r.optional(Reader.u32))
        case _:
            raise r.fail(f"unknown type {form:#x}")


def _skip_later(r: Reader, form: int) -> None:
    if form in (0x66, 0x65):
        r.optional(val_ref)
    elif form == 0x67:
        val_ref(r)
        r.u32()
    elif form == 0x63:
        val_ref(r)
        val_ref(r)

"""WIT types as text, for people: error messages, `GET /v1/component`, and the pieces of `wit_world.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from perdure.component.types import (
    BorrowType,
    EnumType,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    PrimType,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)

Named: TypeAlias = "Callable[[ValueType | ResourceType], str | None]"
"""What a type is called where it is mentioned; None: it has no name there and is written out."""

# The words that WIT's grammar keeps for itself (component-model `WIT.md`, "Keywords").
_KEYWORD = re.compile(
    "as|async|bool|borrow|char|constructor|enum|error-context|export|f32|f64|flags|from|func|future|import|include|"
    "interface|list|map|option|own|package|record|resource|result|s16|s32|s64|s8|static|stream|string|tuple|type|u16|"
    "u32|u64|u8|use|variant|with|world"
)


def identifier(name: str) -> str:
    """A name as WIT text has it: a keyword gets a `%`."""
    return f"%{name}" if _KEYWORD.fullmatch(name) else name


def _unnamed(t: ValueType | ResourceType) -> str | None:
    return None


def format_type(t: ValueType, named: Named = _unnamed) -> str:
    """`option<list<u8>>`; a type that has no name is written out."""
    name = named(t)
    return format_structure(t, named) if name is None else name


def format_structure(t: ValueType, named: Named = _unnamed) -> str:
    """The same for the definition of a named type: its own name is not used, those within are."""
    match t:
        case PrimType(name):
            return name
        case ListType(element):
            return f"list<{format_type(element, named)}>"
        case OptionType(some):
            return f"option<{format_type(some, named)}>"
        case TupleType(items):
            return f"tuple<{', '.join(format_type(item, named) for item in items)}>"
        case RecordType(fields):
            shown = [f"{identifier(name)}: {format_type(kind, named)}" for name, kind in fields]
            return "record { " + ", ".join(shown) + " }"
        case VariantType(cases):
            return "variant { " + ", ".join(format_case(name, kind, named) for name, kind in cases) + " }"
        case EnumType(names):
            return "enum { " + ", ".join(map(identifier, names)) + " }"
        case FlagsType(names):
            return "flags { " + ", ".join(map(identifier, names)) + " }"
        case ResultType(None, None):
            return "result"
        case ResultType(ok, None):
            assert ok is not None
            return f"result<{format_type(ok, named)}>"
        case ResultType(ok, err):
            assert err is not None
            return f"result<{format_type(ok, named) if ok else '_'}, {format_type(err, named)}>"
        case OwnType(resource):
            return named(resource) or identifier(resource.name)
        case BorrowType(resource):
            return f"borrow<{named(resource) or identifier(resource.name)}>"


def format_case(name: str, payload: ValueType | None, named: Named = _unnamed) -> str:
    """`circle(f32)`."""
    return identifier(name) if payload is None else f"{identifier(name)}({format_type(payload, named)})"


def format_func(t: FuncType, named: Named = _unnamed, *, skip: int = 0) -> str:
    """`func(bucket: string) -> option<list<u8>>`. `skip`: parameters left out, such as a method's own."""
    params = ", ".join(f"{identifier(name)}: {format_type(kind, named)}" for name, kind in t.params[skip:])
    return f"func({params})" + (f" -> {format_type(t.result, named)}" if t.result is not None else "")

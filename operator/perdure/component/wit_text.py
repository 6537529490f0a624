"""WIT types and worlds as text, for people: `perdure inspect`, error messages, `GET /v1/component`."""

from __future__ import annotations

from perdure.component.plan import LinkPlan
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
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)


def format_type(t: ValueType) -> str:
    """`option<list<u8>>`; named types are written out."""
    match t:
        case PrimType(name):
            return name
        case ListType(element):
            return f"list<{format_type(element)}>"
        case OptionType(some):
            return f"option<{format_type(some)}>"
        case TupleType(items):
            return f"tuple<{', '.join(format_type(item) for item in items)}>"
        case RecordType(fields):
            return "record { " + ", ".join(f"{name}: {format_type(kind)}" for name, kind in fields) + " }"
        case VariantType(cases):
            shown = [name if kind is None else f"{name}({format_type(kind)})" for name, kind in cases]
            return "variant { " + ", ".join(shown) + " }"
        case EnumType(names):
            return "enum { " + ", ".join(names) + " }"
        case FlagsType(names):
            return "flags { " + ", ".join(names) + " }"
        case ResultType(None, None):
            return "result"
        case ResultType(ok, None):
            assert ok is not None
            return f"result<{format_type(ok)}>"
        case ResultType(ok, err):
            assert err is not None
            return f"result<{format_type(ok) if ok else '_'}, {format_type(err)}>"
        case OwnType(resource):
            return resource.name
        case BorrowType(resource):
            return f"borrow<{resource.name}>"


def format_func(t: FuncType) -> str:
    """`func(bucket: string) -> option<list<u8>>`."""
    params = ", ".join(f"{name}: {format_type(kind)}" for name, kind in t.params)
    return f"func({params})" + (f" -> {format_type(t.result)}" if t.result is not None else "")


def format_world(plan: LinkPlan) -> str:
    """The component's imports and exports, an interface at a time."""
    lines = ["world component {"]
    for word, funcs in (
        ("import", [(func.interface, func.name, func.type) for func in plan.imports]),
        ("export", [(func.interface, func.name, func.type) for func in plan.exports]),
    ):
        by_interface: dict[str, list[str]] = {}
        for interface, name, kind in funcs:
            by_interface.setdefault(interface, []).append(f"{name}: {format_func(kind)};")
        for interface, members in sorted(by_interface.items()):
            if not interface:
                lines += [f"    {word} {member}" for member in sorted(members)]
                continue
            lines += [f"    {word} {interface} {{", *(f"        {member}" for member in sorted(members)), "    }"]
    return "\n".join([*lines, "}"])

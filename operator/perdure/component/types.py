"""WIT-level types and the Python values they map to. Pure data; the runtime's shared vocabulary.

Values (component model, `Explainer.md` "Type Definitions"):

| type | Python value |
|---|---|
| bool, integers, f32/f64, char, string | bool, int, float, str of length 1, str |
| list<u8> | bytes (bytes, bytearray or memoryview accepted when lowering) |
| list<T> | list |
| record | dict keyed by the WIT field names |
| tuple | tuple |
| variant | `Variant(case, payload)`; payload None where the case has none |
| enum | str |
| flags | frozenset of str |
| option<T> | None or the value; if T is itself an option: None or `Some(value)` |
| result<T, E> | `Ok(value)` or `Err(value)`; None where the side has no type |
| own/borrow of a host resource | whatever object the host gave as its representation |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Some:
    """The present side of a nested option."""

    value: object


@dataclass(frozen=True, slots=True)
class Ok:
    """The success side of a `result`."""

    value: object = None


@dataclass(frozen=True, slots=True)
class Err:
    """The failure side of a `result`."""

    value: object = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One case of a `variant` with its payload."""

    case: str
    value: object = None


@dataclass(frozen=True, slots=True)
class PrimType:
    """`name` is one of PRIMITIVES."""

    name: str


PRIMITIVES = ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string")


@dataclass(frozen=True, slots=True)
class ListType:
    element: ValueType


@dataclass(frozen=True, slots=True)
class RecordType:
    fields: tuple[tuple[str, ValueType], ...]


@dataclass(frozen=True, slots=True)
class TupleType:
    items: tuple[ValueType, ...]


@dataclass(frozen=True, slots=True)
class VariantType:
    cases: tuple[tuple[str, ValueType | None], ...]


@dataclass(frozen=True, slots=True)
class EnumType:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlagsType:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptionType:
    some: ValueType


@dataclass(frozen=True, slots=True)
class ResultType:
    ok: ValueType | None
    err: ValueType | None


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """Identity of a resource type: compared by `is`. `interface` is None for a guest-defined one.

    `component_instance` is the defining component instance of a guest-defined resource, else None.
    """

    interface: str | None
    name: str
    component_instance: int | None = None
    destructor: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OwnType:
    resource: ResourceType


@dataclass(frozen=True, slots=True)
class BorrowType:
    resource: ResourceType


ValueType: TypeAlias = (
    PrimType
    | ListType
    | RecordType
    | TupleType
    | VariantType
    | EnumType
    | FlagsType
    | OptionType
    | ResultType
    | OwnType
    | BorrowType
)


@dataclass(frozen=True, slots=True)
class FuncType:
    """`params` are (name, type) in order; `result` is None for a function without one."""

    params: tuple[tuple[str, ValueType], ...]
    result: ValueType | None

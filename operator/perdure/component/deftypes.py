"""Type definitions → WIT-level types with resource identity (`Explainer.md`, "Type Definitions")."""

from __future__ import annotations

from typing import cast

from perdure.component.decode import definitions as d
from perdure.component.plan import CoreRef
from perdure.component.scopes import Scope, TypeClosure, TypeItem, Unsupported
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
from perdure.errors import ComponentError


class _Later(Exception):
    """A value type that mentions an unsupported feature makes the whole type so."""

    def __init__(self, feature: str) -> None:
        super().__init__(feature)
        self.feature = feature


def resolve_type(definition: d.DefType, scope: Scope) -> TypeItem:
    """The type that `definition` denotes in `scope`."""
    try:
        return _resolve(definition, scope)
    except _Later as later:
        return Unsupported(later.feature)


def _value(ref: d.ValRef, scope: Scope) -> ValueType:
    if isinstance(ref, d.PrimRef):
        if ref.name == "error-context":
            raise _Later(ref.name)
        return PrimType(ref.name)
    found = scope.space("type")[ref.index]
    if isinstance(found, Unsupported):
        raise _Later(found.feature)
    if found is None or isinstance(found, (FuncType, ResourceType, TypeClosure)):
        raise ComponentError("malformed component: a value type was expected")
    return cast("ValueType", found)


def _maybe(ref: d.ValRef | None, scope: Scope) -> ValueType | None:
    return None if ref is None else _value(ref, scope)


def _resolve(t: d.DefType, scope: Scope) -> TypeItem:
    match t:
        case d.PrimDef(name):
            return PrimType(name)
        case d.RecordDef(fields):
            return RecordType(tuple((name, _value(ref, scope)) for name, ref in fields))
        case d.VariantDef(cases):
            return VariantType(tuple((name, _maybe(ref, scope)) for name, ref in cases))
        case d.ListDef(element):
            return ListType(_value(element, scope))
        case d.TupleDef(items):
            return TupleType(tuple(_value(ref, scope) for ref in items))
        case d.NamesDef(kind, names):
            return FlagsType(names) if kind == "flags" else EnumType(names)
        case d.OptionDef(some):
            return OptionType(_value(some, scope))
        case d.ResultDef(ok, err):
            return ResultType(_maybe(ok, scope), _maybe(err, scope))
        case d.HandleDef(kind, index):
            resource = scope.space("type")[index]
            if not isinstance(resource, ResourceType):
                raise ComponentError("malformed component: a handle to something that is not a resource")
            return OwnType(resource) if kind == "own" else BorrowType(resource)
        case d.FuncDef(params, result):
            return FuncType(tuple((name, _value(ref, scope)) for name, ref in params), _maybe(result, scope))
        case d.ResourceDef(destructor):
            dtor = None if destructor is None else cast("CoreRef", scope.space("core func")[destructor])
            return ResourceType(None, "resource", scope.instance, dtor)
        case d.InstanceTypeDef() | d.ComponentTypeDef():
            return TypeClosure(t, scope)
        case d.UnsupportedDef(feature):
            return Unsupported(feature)

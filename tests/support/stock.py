"""wasmtime's own component API as a second opinion on what a guest was given and gave back.

It has other Python values than `perdure.component.types`: records are objects with attributes, flags are sets, and a
case of a variant, option or result is its bare payload wherever the payload's class alone tells the case.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import wasmtime
from wasmtime import component as stock

from perdure.component.types import (
    EnumType,
    Err,
    FlagsType,
    FuncType,
    ListType,
    Ok,
    OptionType,
    PrimType,
    RecordType,
    ResultType,
    Some,
    TupleType,
    ValueType,
    Variant,
    VariantType,
)

_SCALARS = {"bool": bool, "f32": float, "f64": float, "char": str, "string": str}
_SumType = OptionType | ResultType | VariantType


class StockGuest:
    """An instance of a component that imports WASI only."""

    def __init__(self, path: Path) -> None:
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        self._store.set_wasi(wasmtime.WasiConfig())
        with stock.Linker(engine) as linker:
            linker.add_wasip2()
            self._instance = linker.instantiate(self._store, stock.Component(engine, path.read_bytes()))

    def call(self, interface: str, name: str, kind: FuncType, args: Sequence[object]) -> object:
        """Takes and gives values of `perdure.component.types`."""
        index = self._instance.get_export_index(
            self._store, name, self._instance.get_export_index(self._store, interface)
        )
        assert index is not None, f"{interface} has no {name}"
        func = self._instance.get_func(self._store, index)
        assert func is not None and kind.result is not None
        given = [_to_stock(t, value) for (_, t), value in zip(kind.params, args, strict=True)]
        return _from_stock(kind.result, func(self._store, *given))


def _cases(t: _SumType) -> tuple[tuple[str, ValueType | None], ...]:
    match t:
        case OptionType(some):
            return (("none", None), ("some", some))
        case ResultType(ok, err):
            return (("ok", ok), ("err", err))
        case VariantType(cases):
            return cases


def _classes(t: ValueType | None) -> set[type]:
    """The classes that values of a type may have there."""
    match t:
        case None:
            return {object}
        case PrimType(name):
            return {_SCALARS.get(name, int)}
        case ListType(element):
            return {bytes if element == PrimType("u8") else list}
        case RecordType():
            return {stock.Record}
        case TupleType():
            return {tuple}
        case EnumType():
            return {str}
        case FlagsType():
            return {set}
        case OptionType() | ResultType() | VariantType():
            return {stock.Variant} if _tagged(t) else set().union(*(_classes(kind) for _, kind in _cases(t)))
    raise AssertionError(f"handles are not values: {t}")


def _tagged(t: _SumType) -> bool:
    classes = [_classes(kind) for _, kind in _cases(t)]
    return sum(map(len, classes)) != len(set().union(*classes))


def _to_stock(t: ValueType, value: object) -> object:
    match t:
        case ListType(element) if isinstance(value, list):
            return [_to_stock(element, item) for item in value]
        case TupleType(items):
            assert isinstance(value, tuple)
            return tuple(_to_stock(kind, item) for kind, item in zip(items, value, strict=True))
        case RecordType(fields):
            assert isinstance(value, dict)
            made = stock.Record()
            for name, kind in fields:
                setattr(made, name, _to_stock(kind, value[name]))
            return made
        case FlagsType():
            assert isinstance(value, frozenset)
            return set(value)
        case OptionType() | ResultType() | VariantType():
            name, payload = _opened(t, value)
            kind = dict(_cases(t))[name]
            given = None if kind is None else _to_stock(kind, payload)
            return stock.Variant(name, given) if _tagged(t) else given
        case _:
            return value


def _opened(t: _SumType, value: object) -> tuple[str, object]:
    """(case, payload) of one of our values."""
    match value:
        case Variant(name, payload):
            return name, payload
        case Ok(payload):
            return "ok", payload
        case Err(payload):
            return "err", payload
        case None:
            return "none", None
        case Some(payload) if isinstance(t, OptionType) and isinstance(t.some, OptionType):
            return "some", payload
        case _:
            return "some", value


def _from_stock(t: ValueType, value: object) -> object:
    match t:
        case ListType(element) if isinstance(value, list):
            return [_from_stock(element, item) for item in value]
        case TupleType(items):
            assert isinstance(value, tuple)
            return tuple(_from_stock(kind, item) for kind, item in zip(items, value, strict=True))
        case RecordType(fields):
            return {name: _from_stock(kind, getattr(value, name)) for name, kind in fields}
        case FlagsType():
            assert isinstance(value, set)
            return frozenset(value)
        case OptionType() | ResultType() | VariantType():
            return _closed(t, *_told(t, value))
        case _:
            return value


def _told(t: _SumType, value: object) -> tuple[str, object]:
    """(case, payload) of one of theirs."""
    cases = _cases(t)
    if _tagged(t):
        assert isinstance(value, stock.Variant)
        name, payload = value.tag, value.payload
    else:
        found = (
            n for n, kind in cases if (value is None) == (kind is None) and isinstance(value, tuple(_classes(kind)))
        )
        name, payload = next(found), value
    kind = dict(cases)[name]
    return name, None if kind is None else _from_stock(kind, payload)


def _closed(t: _SumType, name: str, payload: object) -> object:
    match t:
        case OptionType(some):
            return Some(payload) if name == "some" and isinstance(some, OptionType) else payload
        case ResultType():
            return Ok(payload) if name == "ok" else Err(payload)
        case VariantType():
            return Variant(name, payload)

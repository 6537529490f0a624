"""wasmtime's own component runtime, as an oracle: the same component, the same values, what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import wasmtime
from wasmtime import component as stock
from wasmtime.component import _types as stock_types

from perdure.component.types import (
    EnumType,
    Err,
    FlagsType,
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

HostFunction = tuple[tuple[ValueType, ...], ValueType | None, Callable[..., object]]
"""Types of the parameters, type of the result, and what is called with values of ours."""


@contextmanager
def _tagged_variants() -> Iterator[None]:
    """Every variant, option and result as a tagged `Variant`.

    As it ships, the binding drops the tag where it thinks that the payload's Python type tells the cases apart; it
    takes True for an integer, and cannot tell `none` from `some(none)`.
    """
    original = stock_types.VariantLikeType._tagged
    stock_types.VariantLikeType._tagged = lambda self: True  # type: ignore[method-assign]
    try:
        yield
    finally:
        stock_types.VariantLikeType._tagged = original  # type: ignore[method-assign]


class StockComponent:
    """An instance under wasmtime's own component runtime. `host` functions and `call` take and give our values.

    `wasi`: it imports WASI, with nothing behind it.
    """

    def __init__(
        self, engine: wasmtime.Engine, data: bytes, host: Mapping[str, HostFunction], *, wasi: bool = False
    ) -> None:
        self._store = wasmtime.Store(engine)
        component = stock.Component(engine, data)
        with stock.Linker(engine) as linker:
            if wasi:
                self._store.set_wasi(wasmtime.WasiConfig())
                linker.add_wasip2()
            with linker.root() as root:
                for name, function in host.items():
                    root.add_func(name, _host(*function))
            self._instance = linker.instantiate(self._store, component)

    def call(
        self,
        name: str,
        params: tuple[ValueType, ...],
        result: ValueType | None,
        args: tuple[object, ...],
        *,
        interface: str | None = None,
    ) -> object:
        """Call an export, of an exported interface where one is named. A trap is wasmtime's own exception."""
        within = None if interface is None else self._instance.get_export_index(self._store, interface)
        index = self._instance.get_export_index(self._store, name, within)
        assert index is not None, f"{interface} has no {name}"
        function = self._instance.get_func(self._store, index)
        assert function is not None, name
        with _tagged_variants():
            returned = function(self._store, *(_to_stock(kind, arg) for kind, arg in zip(params, args, strict=True)))
        function.post_return(self._store)
        return None if result is None else _from_stock(result, returned)


def _host(
    params: tuple[ValueType, ...], result: ValueType | None, function: Callable[..., object]
) -> Callable[..., object]:
    def called(_store: object, *args: object) -> object:
        returned = function(*(_from_stock(kind, arg) for kind, arg in zip(params, args, strict=True)))
        return None if result is None else _to_stock(result, returned)

    return called


def _to_stock(t: ValueType, v: object) -> object:
    match t:
        case ListType(PrimType("u8")) | PrimType() | EnumType():
            return v
        case ListType(element):
            assert isinstance(v, list)
            return [_to_stock(element, item) for item in v]
        case TupleType(items):
            assert isinstance(v, tuple)
            return tuple(_to_stock(kind, item) for kind, item in zip(items, v, strict=True))
        case RecordType(fields):
            assert isinstance(v, dict)
            record = stock.Record()
            for name, kind in fields:
                setattr(record, name, _to_stock(kind, v[name]))
            return record
        case FlagsType():
            assert isinstance(v, frozenset)
            return set(v)
        case OptionType(some):
            if v is None:
                return stock.Variant("none")
            return stock.Variant("some", _to_stock(some, v.value if isinstance(v, Some) else v))
        case ResultType(ok, err):
            assert isinstance(v, Ok | Err)
            name, side = ("ok", ok) if isinstance(v, Ok) else ("err", err)
            return stock.Variant(name, None if side is None else _to_stock(side, v.value))
        case VariantType(cases):
            assert isinstance(v, Variant)
            payload = dict(cases)[v.case]
            return stock.Variant(v.case, None if payload is None else _to_stock(payload, v.value))
    raise AssertionError(t)


def _from_stock(t: ValueType, v: object) -> object:
    match t:
        case ListType(PrimType("u8")) | PrimType() | EnumType():
            return v
        case ListType(element):
            assert isinstance(v, list)
            return [_from_stock(element, item) for item in v]
        case TupleType(items):
            assert isinstance(v, tuple)
            return tuple(_from_stock(kind, item) for kind, item in zip(items, v, strict=True))
        case RecordType(fields):
            return {name: _from_stock(kind, getattr(v, name)) for name, kind in fields}
        case FlagsType():
            assert isinstance(v, set)
            return frozenset(v)
    assert isinstance(v, stock.Variant)
    match t:
        case OptionType(some):
            if v.tag == "none":
                return None
            inner = _from_stock(some, v.payload)
            return Some(inner) if isinstance(some, OptionType) else inner
        case ResultType(ok, err):
            side = ok if v.tag == "ok" else err
            return (Ok if v.tag == "ok" else Err)(None if side is None else _from_stock(side, v.payload))
        case VariantType(cases):
            payload = dict(cases)[v.tag]
            return Variant(v.tag, None if payload is None else _from_stock(payload, v.payload))
    raise AssertionError(t)

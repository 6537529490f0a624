"""The component model's executable specification (`canonical-abi/definitions.py`) as an oracle, where one has a copy.

The copy is named by `PERDURE_CANONICAL_ABI`; the project does not carry one.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import sys
from pathlib import Path
from types import ModuleType

from perdure.component.plan import StringEncoding
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

VARIABLE = "PERDURE_CANONICAL_ABI"


@functools.cache
def load() -> ModuleType | None:
    """The specification as a module, with NaNs made canonical. None where `PERDURE_CANONICAL_ABI` is not set."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    name = "canonical_abi_definitions"
    found = importlib.util.spec_from_file_location(name, Path(path))
    assert found is not None and found.loader is not None, f"{VARIABLE} is no Python file: {path}"
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    vars(module)["DETERMINISTIC_PROFILE"] = True
    return module


class Specification:
    """Layout and the bytes of stored values, as the specification has them."""

    def __init__(self, module: ModuleType) -> None:
        self._spec = module

    def layout(self, t: ValueType) -> tuple[int, int, tuple[str, ...]]:
        """(size, alignment, flat core types)."""
        spec, kind = self._spec, self.type(t)
        return (
            spec.elem_size(kind, "i32"),
            spec.alignment(kind, "i32"),
            tuple(spec.flatten_type(kind, self._options("utf8", bytearray()))),
        )

    def stored(self, t: ValueType, v: object, start: int, size: int) -> bytes:
        """Guest memory from `start` on, after `v` has been stored by a bump allocator that begins there, in UTF-8."""
        spec, kind = self._spec, self.type(t)
        memory = bytearray(size)
        options = self._options("utf8", memory)
        context = spec.LiftLowerContext(options, None, None)
        top = start

        def allocate(alignment: int, length: int) -> int:
            nonlocal top
            at = math.ceil(top / alignment) * alignment
            top = at + length
            return at

        context.allocate = allocate
        context.reallocate = None
        at = allocate(spec.alignment(kind, "i32"), spec.elem_size(kind, "i32"))
        spec.store(context, self.value(t, v), kind, at)
        return bytes(memory[start:top])

    def _options(self, encoding: StringEncoding, memory: bytearray) -> object:
        spec = self._spec
        return spec.LiftLowerOptions(encoding, spec.MemInst(memory, "i32"), None)

    def type(self, t: ValueType) -> object:
        spec = self._spec
        match t:
            case PrimType(name):
                return getattr(spec, f"{name.capitalize()}Type")()
            case ListType(element):
                return spec.ListType(self.type(element))
            case RecordType(fields):
                return spec.RecordType([spec.FieldType(name, self.type(kind)) for name, kind in fields])
            case TupleType(items):
                return spec.TupleType([self.type(item) for item in items])
            case VariantType(cases):
                return spec.VariantType([spec.CaseType(name, self._maybe(kind)) for name, kind in cases])
            case EnumType(names):
                return spec.EnumType(list(names))
            case FlagsType(names):
                return spec.FlagsType(list(names))
            case OptionType(some):
                return spec.OptionType(self.type(some))
            case ResultType(ok, err):
                return spec.ResultType(self._maybe(ok), self._maybe(err))
        raise AssertionError(t)

    def _maybe(self, t: ValueType | None) -> object:
        return None if t is None else self.type(t)

    def value(self, t: ValueType | None, v: object) -> object:
        """Our value in the specification's representation: variants are one-entry dictionaries."""
        match t, v:
            case PrimType("string"), str():
                return (v, "utf8", len(v.encode()))
            case None | PrimType(), _:
                return v
            case ListType(element), list() | bytes():
                return [self.value(element, item) for item in v]
            case RecordType(fields), dict():
                return {name: self.value(kind, v[name]) for name, kind in fields}
            case TupleType(items), tuple():
                return {str(index): self.value(kind, v[index]) for index, kind in enumerate(items)}
            case VariantType(cases), Variant(case, payload):
                return {case: self.value(dict(cases)[case], payload)}
            case EnumType(), str():
                return {v: None}
            case FlagsType(names), frozenset():
                return {name: name in v for name in names}
            case OptionType(some), _:
                if v is None:
                    return {"none": None}
                return {"some": self.value(some, v.value if isinstance(v, Some) else v)}
            case ResultType(ok, _), Ok(payload):
                return {"ok": self.value(ok, payload)}
            case ResultType(_, err), Err(payload):
                return {"error": self.value(err, payload)}
        raise AssertionError(t)

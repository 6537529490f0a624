"""WIT types → JSON Schema (2020-12, which OpenAPI 3.1 speaks): the JSON that `wit_json.from_json` accepts. Pure.

Two things a schema cannot say and `from_json` refuses: an integer written with a fraction (`1.0`), and a lone surrogate
in a string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from perdure.component.interfaces import TypeName, World
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
from perdure.component.wit_json import Json
from perdure.component.wit_plain import BEYOND_F32, MAX_F64

Schema: TypeAlias = "dict[str, Json]"

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_U8 = PrimType("u8")


def schema_of(t: ValueType, world: World | None = None) -> Schema:
    """One self-contained schema; the named types of `world` that it mentions are under `$defs`."""
    schemas = Schemas(world or World())
    found = schemas.of(t)
    defs: Schema = {"$defs": dict(schemas.definitions)} if schemas.definitions else {}
    return {"$schema": DIALECT, **found, **defs}


class Schemas:
    """Schemas of many types that share their definitions. `prefix`: where those will be, for references; `taken`: names
    that others have there."""

    def __init__(self, world: World, prefix: str = "#/$defs/", taken: Iterable[str] = ()) -> None:
        self.definitions: dict[str, Schema] = {}
        self._world = world
        self._prefix = prefix
        self._keys: dict[TypeName, str] = {}
        self._taken = set(taken)

    def of(self, t: ValueType) -> Schema:
        """A reference for a named type, else the schema itself."""
        name = self._world.names.of(t)
        if name is None:
            return self._structure(t, {})
        origin = self._world.origin(name)
        if origin not in self._keys:
            self._keys[origin] = key = self._new_key(f"{origin.interface}.{origin.name}")
            definition = self._world.definition(origin)
            items = {} if definition is None else definition.items
            docs = "" if definition is None else definition.docs
            # After those that it mentions, which some generators need, and without a title: they would name their
            # type by that, and another interface may have the same.
            self.definitions[key] = {**_described(docs), **self._structure(t, items)}
        return {"$ref": self._prefix + self._keys[origin]}

    def arguments(self, t: FuncType) -> Schema:
        """The body of a call: an array of arguments, or an object by parameter name (`wit_json.args_from_json`)."""
        return {"oneOf": [self._array([kind for _, kind in t.params]), self._by_name(t)]}

    def named_arguments(self, path: str, t: FuncType) -> Schema:
        """The same for the function `path`; those by name get a definition, so that generators have a name for it."""
        key = self._new_key(f"{path}.arguments")
        self.definitions[key] = self._by_name(t)
        return {"oneOf": [self._array([kind for _, kind in t.params]), {"$ref": self._prefix + key}]}

    def result(self, t: FuncType) -> Schema:
        """The reply: null for a function without a result."""
        return {"type": "null"} if t.result is None else self.of(t.result)

    def _by_name(self, t: FuncType) -> Schema:
        return self._object([(name, kind, "") for name, kind in t.params])

    def _new_key(self, path: str) -> str:
        wanted = identifier(path)
        key, number = wanted, 2
        while key in self._taken:
            key, number = f"{wanted}-{number}", number + 1
        self._taken.add(key)
        return key

    def _structure(self, t: ValueType, docs: dict[str, str]) -> Schema:
        match t:
            case PrimType(name):
                return _primitive(name)
            case ListType(PrimType("u8")):
                text: Schema = {"type": "string", "contentEncoding": "base64", "pattern": _BASE64}
                return {"anyOf": [text, {"type": "array", "items": _primitive("u8")}]}
            case ListType(element):
                return {"type": "array", "items": self.of(element)}
            case TupleType(items):
                return self._array(list(items))
            case RecordType(fields):
                return self._object([(name, kind, docs.get(name, "")) for name, kind in fields])
            case OptionType(some):
                present = self.of(some)
                if isinstance(some, OptionType):
                    present = _only("some", present)
                return {"anyOf": [present, {"type": "null"}]}
            case ResultType(ok, err):
                sides = [("ok", ok), ("err", err)]
                return {
                    "oneOf": [_only(side, {"type": "null"} if kind is None else self.of(kind)) for side, kind in sides]
                }
            case VariantType(cases):
                return {"oneOf": self._cases(cases, docs)}
            case EnumType(names):
                return {"type": "string", "enum": list(names)}
            case FlagsType(names):
                return {"type": "array", "items": {"type": "string", "enum": list(names)}}
            case OwnType() | BorrowType():
                return {"not": {}, "description": "a handle, which cannot be sent or received"}

    def _cases(self, cases: tuple[tuple[str, ValueType | None], ...], docs: dict[str, str]) -> list[Json]:
        """Those without a payload together: generators tell an enumeration from objects, but not one constant."""
        found: list[Json] = []
        bare = [name for name, kind in cases if kind is None]
        if bare:
            told = "\n\n".join(f"`{name}`: {docs[name]}" for name in bare if docs.get(name))
            found.append({"type": "string", "enum": list(bare), **_described(told)})
        for name, kind in cases:
            if kind is not None:
                found.append({**_only(name, self.of(kind)), **_described(docs.get(name, ""))})
        return found

    def _array(self, kinds: list[ValueType]) -> Schema:
        # Their number bounds it; `items: false` would say no more, and generators do not take it.
        items: Schema = {"prefixItems": [self.of(kind) for kind in kinds]} if kinds else {"items": {}}
        return {"type": "array", **items, "minItems": len(kinds), "maxItems": len(kinds)}

    def _object(self, fields: list[tuple[str, ValueType, str]]) -> Schema:
        return {
            "type": "object",
            "properties": {name: {**self.of(kind), **_described(docs)} for name, kind, docs in fields},
            "required": [name for name, _, _ in fields],
            "additionalProperties": False,
        }


def identifier(path: str) -> str:
    """Of a function or a type, in what OpenAPI takes: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", ".", path.strip("."))


def has_handles(t: ValueType | None) -> bool:
    """Whether a value of this type cannot cross in JSON."""
    match t:
        case OwnType() | BorrowType():
            return True
        case ListType(inner) | OptionType(inner):
            return has_handles(inner)
        case TupleType(items):
            return any(map(has_handles, items))
        case RecordType(fields):
            return any(has_handles(kind) for _, kind in fields)
        case VariantType(cases):
            return any(has_handles(kind) for _, kind in cases)
        case ResultType(ok, err):
            return has_handles(ok) or has_handles(err)
        case _:
            return False


def _primitive(name: str) -> Schema:
    match name:
        case "bool":
            return {"type": "boolean"}
        case "string":
            return {"type": "string"}
        case "char":
            return {"type": "string", "minLength": 1, "maxLength": 1}
        case "f32":
            bounds: Schema = {"exclusiveMinimum": -BEYOND_F32, "exclusiveMaximum": BEYOND_F32, "format": "float"}
            return _float(bounds)
        case "f64":
            return _float({"minimum": -MAX_F64, "maximum": MAX_F64, "format": "double"})
        case _:
            bits, signed = int(name[1:]), name[0] == "s"
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            return {
                "type": "integer",
                "minimum": low,
                "maximum": high,
                "format": f"{'int' if signed else 'uint'}{bits}",
            }


def _float(bounds: Schema) -> Schema:
    return {"anyOf": [{"type": "number", **bounds}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def _only(name: str, value: Schema) -> Schema:
    """An object with this one property."""
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}


def _described(docs: str) -> Schema:
    return {"description": docs} if docs else {}

"""A component's world in the words of WIT: interfaces, named types, functions, docs. Pure data; `worlds.py` reads it.

The structural types of `types.py` stay as they are, since lift and lower depend on structure alone. What a type is
called is kept beside them by identity: each named type of an interface is an object of its own, and `TypeNames` knows
who it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from perdure.component.types import FuncType, ResourceType, ValueType

NamedType: TypeAlias = ValueType | ResourceType
FunctionKind: TypeAlias = Literal["function", "method", "static", "constructor"]


@dataclass(frozen=True, slots=True)
class TypeName:
    """A named type: `point` of `golem:examples/api`. `interface` is "" for a type of the world itself."""

    interface: str
    name: str


class TypeNames:
    """Which objects are named types. An object is known by the first name it was given."""

    def __init__(self) -> None:
        # The object is kept with its name, so that its id is not given to another.
        self._names: dict[int, tuple[NamedType, TypeName]] = {}

    def give(self, t: NamedType, name: TypeName) -> TypeName:
        """Name `t` unless it has a name; returns the name it has."""
        return self._names.setdefault(id(t), (t, name))[1]

    def of(self, t: NamedType) -> TypeName | None:
        """The name of this very object; an equal one may have another, or none."""
        found = self._names.get(id(t))
        return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A type by name in an interface.

    `same_as`: the named type that this one is: of another interface (`use`), or of the same one (`type a = b`).
    `type` is None for a type that Perdure does not support; `unsupported` then names the feature.
    `items`: docs of a record's fields, a variant's cases, an enum's and flags' names.
    """

    name: str
    type: NamedType | None
    same_as: TypeName | None = None
    unsupported: str = ""
    docs: str = ""
    items: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is named in the binary: `set`, `[method]bucket.get`, `[static]bucket.open`,
    `[constructor]bucket`. `type` is None for one that Perdure does not support; `unsupported` names the feature."""

    name: str
    type: FuncType | None
    unsupported: str = ""
    docs: str = ""

    @property
    def kind(self) -> FunctionKind:
        for kind in _KINDS:
            if self.name.startswith(f"[{kind}]"):
                return kind
        return "function"

    @property
    def resource(self) -> str | None:
        """The resource that a method, static function or constructor belongs to."""
        return None if self.kind == "function" else self.name.partition("]")[2].partition(".")[0]

    @property
    def item(self) -> str:
        """The name within its resource: `get`; the whole name of a plain function."""
        return self.name if self.kind in ("function", "constructor") else self.name.partition(".")[2]


_KINDS: tuple[FunctionKind, ...] = ("method", "static", "constructor")


@dataclass(frozen=True, slots=True)
class Interface:
    """An imported or exported interface: `wasi:keyvalue/store@0.2.0-draft2`, or a plain name for one written in the
    world. The items of the world itself stand in an interface named "". Only what the component uses is in it."""

    name: str
    types: tuple[TypeDefinition, ...] = ()
    functions: tuple[Function, ...] = ()
    docs: str = ""

    @property
    def package(self) -> str | None:
        """`wasi:keyvalue@0.2.0-draft2`; None for a plain name and for the world."""
        path, _, version = self.name.partition("@")
        package, slash, _ = path.rpartition("/")
        return (f"{package}@{version}" if version else package) if slash else None

    @property
    def version(self) -> str | None:
        return self.name.partition("@")[2] or None

    @property
    def local_name(self) -> str:
        """`store`: the name within its package."""
        return self.name.partition("@")[0].rpartition("/")[2]

    def path_of(self, func: Function) -> str:
        """`golem:examples/api.set`, as `ExportedFunc.path` has it."""
        return f"{self.name}.{func.name}" if self.name else func.name


@dataclass(frozen=True, slots=True)
class World:
    """What a component imports and exports, in the binary's order. `packages`: docs of packages, by name."""

    imports: tuple[Interface, ...] = ()
    exports: tuple[Interface, ...] = ()
    docs: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    names: TypeNames = field(default_factory=TypeNames, compare=False, repr=False)

    def interfaces(self) -> Iterator[Interface]:
        """All of them; one that is both imported and exported comes twice."""
        yield from self.imports
        yield from self.exports

    def exported_functions(self) -> Iterator[tuple[Interface, Function]]:
        """Each with its interface."""
        for interface in self.exports:
            for func in interface.functions:
                yield interface, func

    def origin(self, name: TypeName) -> TypeName:
        """The type that `name` is in the end, through `use`s and `type a = b`."""
        seen = {name}
        while (found := self.definition(name)) is not None and found.same_as is not None and found.same_as not in seen:
            name = found.same_as
            seen.add(name)
        return name

    def definition(self, name: TypeName) -> TypeDefinition | None:
        """Where a named type is defined."""
        for interface in self.interfaces():
            if interface.name == name.interface:
                for definition in interface.types:
                    if definition.name == name.name:
                        return definition
        return None

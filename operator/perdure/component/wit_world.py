"""A `World` as a WIT document that WIT tools read: the world, then each package with the interfaces it needs.

Pure. An interface stands once, though it may be imported and exported, with what the component uses of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.component.interfaces import Function, Interface, TypeDefinition, TypeName, World
from perdure.component.types import (
    EnumType,
    FlagsType,
    OwnType,
    RecordType,
    ResourceType,
    ValueType,
    VariantType,
)
from perdure.component.wit_text import Named, format_case, format_func, format_structure, format_type, identifier

_INDENT = "  "
# Readable, but refused in WIT text (they are deprecated or discouraged by Unicode).
_DISCOURAGED = frozenset("\u0149\u0673\u0f77\u0f79\u17a3\u17a4\u17b4\u17b5")


def format_world(world: World) -> str:
    """The whole document. What WIT cannot say (unsupported types, instances within instances) is a comment."""
    lines = ["package root:component;", "", *_docs(world.docs, ""), "world root {"]
    lines += _indented(_world_items(world))
    lines.append("}")
    for package, interfaces in _packages(world).items():
        lines += ["", *_docs(world.packages.get(package, ""), ""), f"package {_package(package)} {{"]
        for at, interface in enumerate(interfaces):
            lines += [*([""] if at else []), *_indented(_docs(interface.docs, ""))]
            lines.append(f"{_INDENT}interface {identifier(interface.local_name)} {{")
            lines += _indented(_indented(interface_items(world, interface)))
            lines.append(f"{_INDENT}}}")
        lines.append("}")
    return "\n".join(lines)


def interface_items(world: World, interface: Interface) -> list[str]:
    """The lines within an interface's braces: what it uses, types, resources with their functions, functions."""
    scope = _Scope(world, interface)
    blocks = scope.blocks(interface.types, [func for func in interface.functions if func.kind == "function"])
    return _spaced([scope.use_lines(), *blocks])


def type_text(world: World, interface: Interface, t: ValueType) -> str:
    """A type as it is mentioned in `interface`."""
    return format_type(t, _Scope(world, interface).named)


def function_text(world: World, interface: Interface, func: Function) -> str:
    """`func(p: point) -> string`, with the names that `interface` has for types; a method's `self` is in it."""
    if func.type is None:
        return f"func  // uses {func.unsupported}"
    return format_func(func.type, _Scope(world, interface).named)


def definition_text(world: World, interface: Interface, definition: TypeDefinition) -> str:
    """One named type on one line, such as `record point { x: s32 }`, without docs."""
    lines = _Scope(world, interface).definition(definition)
    return " ".join(line.strip() for line in lines if not line.lstrip().startswith("///")).rstrip(";").strip()


def _packages(world: World) -> dict[str, list[Interface]]:
    """Package → its interfaces; an exported one, which is complete, stands for an imported one. What the component
    exports comes first."""
    merged: dict[str, Interface] = {}
    for interface in (*world.exports, *world.imports):
        if interface.package is None:
            continue
        known = merged.get(interface.name)
        merged[interface.name] = interface if known is None else _merged(known, interface)
    packages: dict[str, list[Interface]] = {}
    exported = {interface.package for interface in world.exports}
    for interface in sorted(merged.values(), key=lambda found: (found.package not in exported, found.name)):
        packages.setdefault(interface.package or "", []).append(interface)
    return packages


def _merged(known: Interface, other: Interface) -> Interface:
    types = {definition.name for definition in known.types}
    functions = {func.name for func in known.functions}
    return Interface(
        known.name,
        (*known.types, *(definition for definition in other.types if definition.name not in types)),
        (*known.functions, *(func for func in other.functions if func.name not in functions)),
        known.docs or other.docs,
    )


def _world_items(world: World) -> list[str]:
    own = _merged_world(world)
    scope = _Scope(world, own)
    functions: list[str] = []
    interfaces: list[str] = []
    for word, found in (("import", world.imports), ("export", world.exports)):
        for interface in found:
            if not interface.name:
                for func in interface.functions:
                    functions += [*_docs(func.docs, ""), scope.function(func, prefix=f"{word} ")]
            elif interface.package is not None:
                interfaces.append(f"{word} {_path(interface.name)};")
            elif "." in interface.name:
                interfaces.append(f"// {word} {interface.name}: an instance within an instance")
            else:
                interfaces += _docs(interface.docs, "")
                interfaces.append(f"{word} {identifier(interface.name)}: interface {{")
                interfaces += [*_indented(interface_items(world, interface)), "}"]
    types = scope.blocks(own.types, [])
    return _spaced([interfaces, scope.use_lines(), *types, functions])


def _merged_world(world: World) -> Interface:
    own = [interface for interface in world.interfaces() if not interface.name]
    return _merged(own[0], own[1]) if len(own) == 2 else own[0] if own else Interface("")


@dataclass(slots=True)
class _Scope:
    """How types are called within one interface, and which `use` that takes."""

    world: World
    interface: Interface
    # Types of other interfaces that this one does not list, with what they are called here.
    extra: dict[TypeName, str] = field(default_factory=dict)

    def named(self, t: ValueType | ResourceType) -> str | None:
        name = self.world.names.of(t)
        if name is None:
            return None
        if name.interface == self.interface.name:
            return identifier(name.name)
        for definition in self.interface.types:
            if definition.same_as == name:
                return identifier(definition.name)
        if not _can_be_used(name):
            return identifier(name.name)  # WIT has no way to say whose it is
        if name not in self.extra:
            taken = {definition.name for definition in self.interface.types} | set(self.extra.values())
            local = name.name
            while local in taken:
                local += "-other"
            self.extra[name] = local
        return identifier(self.extra[name])

    def blocks(self, types: Sequence[TypeDefinition], functions: Sequence[Function]) -> list[list[str]]:
        """The definitions, each a block of lines, and the functions, a block too unless they have docs."""
        found = [self.definition(definition) for definition in types]
        plain: list[str] = []
        for func in functions:
            if func.docs:
                found += [plain, [*_docs(func.docs, ""), self.function(func)]]
                plain = []
            else:
                plain.append(self.function(func))
        return [*found, plain]

    def use_lines(self) -> list[str]:
        """Known once the rest has been written: a type may be used that the interface does not list."""
        listed = [(found.same_as, found.name) for found in self.interface.types if found.same_as is not None]
        uses: dict[str, list[str]] = {}
        for origin, local in [*listed, *self.extra.items()]:
            if self._is_use(origin):
                renamed = "" if origin.name == local else f" as {identifier(local)}"
                uses.setdefault(origin.interface, []).append(identifier(origin.name) + renamed)
        return [f"use {self._use_path(path)}.{{{', '.join(names)}}};" for path, names in uses.items()]

    def _is_use(self, origin: TypeName) -> bool:
        return origin.interface != self.interface.name and _can_be_used(origin)

    def _use_path(self, path: str) -> str:
        """Within the package, the interface's name alone."""
        other = Interface(path)
        return identifier(other.local_name) if other.package == self.interface.package else _path(path)

    def function(self, func: Function, *, prefix: str = "") -> str:
        """One line, `get: func(key: string) -> string;`, for any kind."""
        name = identifier(func.item)
        if func.type is None:
            return f"// {prefix}{name}: uses {func.unsupported}, which Perdure does not support"
        if func.kind == "constructor":
            shown = format_func(func.type, self.named).removeprefix("func")
            params, arrow, result = shown.rpartition(" -> ")
            made = func.type.result
            plain = isinstance(made, OwnType) and self.named(made.resource) == identifier(func.resource or "")
            return f"constructor{params if plain else params + arrow + result};"
        if func.kind == "method":
            return f"{prefix}{name}: {format_func(func.type, self.named, skip=1)};"
        static = "static " if func.kind == "static" else ""
        return f"{prefix}{name}: {static}{format_func(func.type, self.named)};"

    def definition(self, definition: TypeDefinition) -> list[str]:
        """The lines of one named type, docs first; none for a `use`."""
        name, t = identifier(definition.name), definition.type
        if t is None:
            return [f"// type {name}: uses {definition.unsupported}, which Perdure does not support"]
        origin = definition.same_as
        if origin is not None and self._is_use(origin):
            return []
        lines = _docs(definition.docs, "")
        if origin is not None and origin.interface == self.interface.name and origin.name != definition.name:
            return [*lines, f"type {name} = {identifier(origin.name)};"]
        if isinstance(t, ResourceType):
            return lines + self._resource(definition.name)
        return lines + self._structure(name, t, definition.items)

    def _resource(self, name: str) -> list[str]:
        members: list[str] = []
        for func in self.interface.functions:
            if func.resource == name:
                members += [*_docs(func.docs, ""), self.function(func)]
        if not members:
            return [f"resource {identifier(name)};"]
        return [f"resource {identifier(name)} {{", *_indented(members), "}"]

    def _structure(self, name: str, t: ValueType, docs: dict[str, str]) -> list[str]:
        match t:
            case RecordType(fields):
                items = [(label, f"{identifier(label)}: {format_type(kind, self.named)}") for label, kind in fields]
                return _block("record", name, items, docs)
            case VariantType(cases):
                items = [(label, format_case(label, payload, self.named)) for label, payload in cases]
                return _block("variant", name, items, docs)
            case EnumType(names):
                return _block("enum", name, [(label, identifier(label)) for label in names], docs)
            case FlagsType(names):
                return _block("flags", name, [(label, identifier(label)) for label in names], docs)
            case _:
                return [f"type {name} = {format_structure(t, self.named)};"]


def _can_be_used(name: TypeName) -> bool:
    """Whether a `use` can name the interface: those written in a world, and the world itself, cannot be."""
    return Interface(name.interface).package is not None


def _block(word: str, name: str, items: Sequence[tuple[str, str]], docs: dict[str, str]) -> list[str]:
    lines = [f"{word} {name} {{"]
    for label, text in items:
        lines += [*_docs(docs.get(label, ""), _INDENT), f"{_INDENT}{text},"]
    return [*lines, "}"]


def _path(interface: str) -> str:
    """`wasi:keyvalue/store@0.2.0-draft2`, keywords escaped."""
    path, at, version = interface.partition("@")
    package, _, name = path.rpartition("/")
    return f"{_package(package)}/{identifier(name)}{at}{version}"


def _package(package: str) -> str:
    path, at, version = package.partition("@")
    return ":".join(identifier(part) for part in path.split(":")) + at + version


def _docs(text: str, indent: str) -> list[str]:
    """Doc comments. The words are anybody's: what is not printable, or not allowed in WIT, is replaced."""
    if not text.strip():
        return []
    return [f"{indent}/// {_shown(line)}".rstrip() for line in text.strip("\n").splitlines()]


def _shown(line: str) -> str:
    spaced = line.expandtabs(4)
    return "".join(
        char if char.isprintable() and char not in _DISCOURAGED else "\N{REPLACEMENT CHARACTER}" for char in spaced
    )


def _spaced(blocks: Sequence[list[str]]) -> list[str]:
    """Blocks with an empty line between them; definitions of one line that follow each other stay together."""
    lines: list[str] = []
    before: list[str] = []
    for block in blocks:
        if not block:
            continue
        if before and not (len(before) == len(block) == 1 and before[0].split(" ")[0] == block[0].split(" ")[0]):
            lines.append("")
        lines += block
        before = block
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return [_INDENT + line if line else line for line in lines]


__all__ = ["Named", "definition_text", "format_world", "function_text", "interface_items", "type_text"]

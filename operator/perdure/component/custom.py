"""Custom sections: what a toolchain says of a component (tool-conventions `ProducersSection.md`; wit-parser's
`package-docs`; component-model `Binary.md`, "Name Section").

They mean nothing to the runtime and anybody may have written them, so each is bounded, and one that cannot be read is
left out with a note; it is never a failure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TypeAlias

from perdure.component.decode.reader import Reader
from perdure.errors import ComponentError

Producers: TypeAlias = "dict[str, dict[str, str]]"
"""Field (`language`, `processed-by`, `sdk`) → name → version, which may be empty."""

MAX_SECTION = 1 << 20
"""Bytes of a section that is read; a longer one is left out."""
MAX_ENTRIES = 64
"""Fields of a producers section, and values of each."""
MAX_TEXT = 256
"""Characters of a name or version."""
MAX_DOCS = 16_384
"""Characters of one documentation text."""
_PRODUCER_FIELDS = ("language", "processed-by", "sdk")


@dataclass(slots=True)
class Notes:
    """What was left out, in words; the first few are kept."""

    lines: list[str] = field(default_factory=list)
    most: int = 20

    def add(self, line: str) -> None:
        if len(self.lines) < self.most and line not in self.lines:
            self.lines.append(line)


def producers(data: bytes, where: str, notes: Notes) -> Producers:
    """A `producers` section's content; {} where it cannot be read."""
    try:
        _bounded(data)
        r = Reader(data)
        found: Producers = {}
        for _ in range(_count(r, "fields")):
            name = _text(r)
            values = {_text(r): _text(r) for _ in range(_count(r, "values"))}
            if name in _PRODUCER_FIELDS:
                found.setdefault(name, {}).update(values)
        if r.left:
            raise r.fail("bytes left over")
    except ComponentError as error:
        notes.add(f"the producers section of {where} was left out: {_reason(error)}")
        return {}
    return found


def core_module_names(data: bytes, notes: Notes) -> dict[int, str]:
    """The names a `component-name` section gives to core modules, by index; {} where it cannot be read."""
    names: dict[int, str] = {}
    try:
        _bounded(data)
        r = Reader(data)
        while r.left:
            kind, body = r.byte(), r.sub(r.u32())
            # Subsection 1 names the items of one sort; 0x00 0x11 are core modules.
            if kind == 1 and body.take(2) == b"\x00\x11":
                names.update(body.vector(lambda s: (s.u32(), _text(s))))
    except ComponentError as error:
        notes.add(f"the component-name section was left out: {_reason(error)}")
        return {}
    return names


@dataclass(frozen=True, slots=True)
class TypeDocs:
    docs: str = ""
    items: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InterfaceDocs:
    docs: str = ""
    functions: dict[str, str] = field(default_factory=dict)
    types: dict[str, TypeDocs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorldDocs:
    """`imports`, `exports`: interfaces written in the world, by name, and what is said of the others where they are
    imported or exported; `import_functions`, `export_functions`, `types`: of the world itself."""

    docs: str = ""
    imports: dict[str, InterfaceDocs] = field(default_factory=dict)
    exports: dict[str, InterfaceDocs] = field(default_factory=dict)
    import_functions: dict[str, str] = field(default_factory=dict)
    export_functions: dict[str, str] = field(default_factory=dict)
    types: dict[str, TypeDocs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PackageDocs:
    """The docs of one package; the section does not say which package it is."""

    docs: str = ""
    worlds: dict[str, WorldDocs] = field(default_factory=dict)
    interfaces: dict[str, InterfaceDocs] = field(default_factory=dict)


def package_docs(data: bytes, notes: Notes) -> PackageDocs:
    """A `package-docs` section: a version byte (0 or 1), then JSON. Empty where it cannot be read."""
    try:
        _bounded(data)
        if data[:1] not in (b"\x00", b"\x01"):
            raise ComponentError(f"unknown version {data[0]}" if data else "it is empty")
        document = json.loads(data[1:])
        if not isinstance(document, dict):
            raise ComponentError("it is not a JSON object")
        return PackageDocs(
            _docs(document),
            {name: _world(value) for name, value in _map(document, "worlds").items()},
            {name: _interface(value) for name, value in _map(document, "interfaces").items()},
        )
    except ComponentError as error:
        reason = _reason(error)
    except (ValueError, RecursionError):
        reason = "it is not JSON"
    notes.add(f"the package-docs section was left out: {reason}")
    return PackageDocs()


def _world(value: object) -> WorldDocs:
    return WorldDocs(
        _docs(value),
        {name: _interface(inner) for key in _IMPORTS for name, inner in _map(value, key).items()},
        {name: _interface(inner) for key in _EXPORTS for name, inner in _map(value, key).items()},
        {name: _docs(inner) for name, inner in _map(value, "funcs").items()},
        {name: _docs(inner) for name, inner in _map(value, "func_exports").items()},
        {name: _type(inner) for name, inner in _map(value, "types").items()},
    )


# Interfaces written in the world by name, then the docs alone of those that are imported or exported by their path.
_IMPORTS = ("interfaces", "interface_import_docs")
_EXPORTS = ("interface_exports", "interface_export_docs")


def _interface(value: object) -> InterfaceDocs:
    return InterfaceDocs(
        _docs(value),
        {name: _docs(inner) for name, inner in _map(value, "funcs").items()},
        {name: _type(inner) for name, inner in _map(value, "types").items()},
    )


def _type(value: object) -> TypeDocs:
    return TypeDocs(_docs(value), {name: _docs(text) for name, text in _map(value, "items").items()})


def _map(value: object, key: str) -> dict[str, object]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _docs(value: object) -> str:
    """Version 0 has functions' docs as plain strings, version 1 as objects. JSON may hold lone surrogates."""
    text = value.get("docs") if isinstance(value, dict) else value
    return text[:MAX_DOCS].encode("utf-8", "replace").decode() if isinstance(text, str) else ""


def _bounded(data: bytes) -> None:
    if len(data) > MAX_SECTION:
        raise ComponentError(f"it has more than {MAX_SECTION:,} bytes")


def _count(r: Reader, what: str) -> int:
    count = r.u32()
    if count > MAX_ENTRIES:
        raise r.fail(f"more than {MAX_ENTRIES} {what}")
    return count


def _text(r: Reader) -> str:
    text = r.name()
    if len(text) > MAX_TEXT:
        raise r.fail(f"a text of more than {MAX_TEXT} characters")
    return text


def _reason(error: ComponentError) -> str:
    return error.detail.removeprefix("malformed component: ")

"""All that a component's bytes say of it: `perdure inspect`, `GET /v1/component`.

Pure; nothing is compiled or run. What cannot be read of custom sections is left out, and `notes` say so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from perdure.component.custom import (
    Notes,
    PackageDocs,
    Producers,
    core_module_names,
    package_docs,
    producers,
)
from perdure.component.decode import decode_component
from perdure.component.decode import definitions as d
from perdure.component.decode.reader import Reader
from perdure.component.docs import with_docs
from perdure.component.interfaces import World
from perdure.component.worlds import ImportUse, Reason, read_world
from perdure.errors import ComponentError, ComponentUnsupported

PAGE = 65_536
_CUSTOM, _MEMORY = 0, 5
# The tools that only speak for a language, so that their version is the language's.
_COMPILERS = {"Rust": "rustc"}


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory that a core module defines, in pages of `page` bytes. `maximum` None: as far as its addresses reach."""

    minimum: int
    maximum: int | None
    page: int = PAGE
    addresses: int = 32
    shared: bool = False


@dataclass(frozen=True, slots=True)
class CoreModule:
    """`name` is "" where nothing names it. `memories`: those it defines; imported ones belong to other modules."""

    name: str
    data: bytes = field(repr=False)
    memories: tuple[Memory, ...]
    producers: Producers

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def is_glue(self) -> bool:
        """Made by the tool that made the component, not from the guest's source: shims, adapters of older WASI."""
        return self.name.startswith(("wit-component:", "wit-component-"))


@dataclass(frozen=True, slots=True)
class Tool:
    """`versions`: those of the component first, then those of its core modules; may be empty."""

    name: str
    versions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.versions[0]}" if self.versions else self.name


@dataclass(frozen=True, slots=True)
class Toolchain:
    """As far as it is recorded (`producers` sections). Glue modules do not count: their language is not the guest's."""

    languages: tuple[Tool, ...] = ()
    tools: tuple[Tool, ...] = ()
    sdks: tuple[Tool, ...] = ()

    def __str__(self) -> str:
        """`Rust 1.95.0 (wit-component 0.245.1, wit-bindgen-rust 0.46.0)`; "" where nothing is recorded."""
        by_name = {tool.name: tool for tool in self.tools}
        spoken, languages = set(), []
        for language in self.languages:
            compiler = by_name.get(_COMPILERS.get(language.name, ""))
            if not language.versions and compiler is not None and compiler.versions:
                spoken.add(compiler.name)
                languages.append(f"{language.name} {compiler.versions[0].split(' ')[0]}")
            else:
                languages.append(str(language))
        rest = ", ".join(str(tool) for tool in (*self.sdks, *self.tools) if tool.name not in spoken)
        if not languages:
            return rest
        return ", ".join(languages) + (f" ({rest})" if rest else "")


@dataclass(frozen=True, slots=True)
class About:
    """`uses`: the imports that the component's code refers to. `reasons`: why it cannot be run, as far as its bytes
    tell. `notes`: what was left out of this description."""

    digest: str
    size: int
    world: World
    uses: tuple[ImportUse, ...]
    reasons: tuple[Reason, ...]
    modules: tuple[CoreModule, ...]
    toolchain: Toolchain
    notes: tuple[str, ...]

    @property
    def memories(self) -> tuple[Memory, ...]:
        return tuple(memory for module in self.modules for memory in module.memories)


def about_component(data: bytes) -> About:
    """Raises `ComponentError` for what is not a component or is malformed, `ComponentUnsupported` where a feature
    hides what comes after it."""
    refusals: list[ComponentUnsupported] = []
    definitions = decode_component(data, refusals)
    reading = read_world(definitions)
    notes = Notes()
    refused = {refusal.feature: Reason(refusal.feature, refusal.detail) for refusal in refusals}
    reasons = [*refused.values(), *(reason for reason in reading.reasons if reason.feature not in refused)]
    own = [definition for definition in definitions if isinstance(definition, d.Custom)]
    docs = [package_docs(section.data, notes) for section in own if section.name == "package-docs"]
    modules = tuple(_modules(definitions, notes))
    made_by = [producers(section.data, "the component", notes) for section in own if section.name == "producers"]
    return About(
        digest="sha256:" + hashlib.sha256(data).hexdigest(),
        size=len(data),
        world=with_docs(reading.world, docs[0] if docs else PackageDocs(), notes),
        uses=reading.uses,
        reasons=tuple(reasons),
        modules=modules,
        toolchain=_toolchain([*made_by, *(module.producers for module in modules if not module.is_glue)]),
        notes=tuple(notes.lines),
    )


def _modules(definitions: Sequence[d.Definition], notes: Notes) -> Iterator[CoreModule]:
    """Of the component and of those within it, in the binary's order."""
    names: dict[int, str] = {}
    for definition in definitions:
        if isinstance(definition, d.Custom) and definition.name == "component-name":
            names.update(core_module_names(definition.data, notes))
    index = 0
    for definition in definitions:
        match definition:
            case d.CoreModuleDef(data):
                yield _module(data, names.get(index, ""), notes)
                index += 1
            case d.Import(_, d.ExternType("core module")) | d.AliasExport("core module") | d.AliasOuter("core module"):
                index += 1
            case d.ComponentDef(inner):
                yield from _modules(inner, notes)
            case _:
                pass


def _module(data: bytes, name: str, notes: Notes) -> CoreModule:
    made_by: Producers = {}
    memories: tuple[Memory, ...] = ()
    where = f"the core module {name}" if name else "a core module"
    r = Reader(data, min(8, len(data)))
    try:
        while r.left:
            section = r.byte()
            body = r.sub(r.u32())
            if section == _MEMORY:
                memories = body.vector(_memory)
            elif section == _CUSTOM and body.name() == "producers":
                made_by = producers(body.take(body.left), where, notes)
    except ComponentError as error:
        notes.add(f"{where} was not read to its end: {error.detail}")
    return CoreModule(name, data, memories, made_by)


def _memory(r: Reader) -> Memory:
    """`memtype` (core specification, "Binary Format: Types"; with memory64, threads and custom page sizes)."""
    flags = r.byte()
    minimum = r.u64()
    maximum = r.u64() if flags & 1 else None
    page = 1 << min(r.u32(), 16) if flags & 8 else PAGE
    return Memory(minimum, maximum, page, 64 if flags & 4 else 32, bool(flags & 2))


def _toolchain(recorded: Sequence[Producers]) -> Toolchain:
    def field(name: str) -> tuple[Tool, ...]:
        found: dict[str, list[str]] = {}
        for one in recorded:
            for tool, version in one.get(name, {}).items():
                versions = found.setdefault(tool, [])
                if version and version not in versions:
                    versions.append(version)
        return tuple(Tool(tool, tuple(versions)) for tool, versions in found.items())

    return Toolchain(field("language"), field("processed-by"), field("sdk"))

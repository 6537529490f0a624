"""The generated lift and lower of a component's functions, as text: `perdure inspect --codegen`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from perdure.component.canonical.functions import export_code, host_code
from perdure.component.interfaces import World
from perdure.component.wit_text import format_func
from perdure.component.wit_world import function_text
from perdure.component.worlds import ImportUse
from perdure.errors import NoSuchFunction


@dataclass(frozen=True, slots=True)
class Listing:
    """`type`: with the interface's names for types; `structure`: the same with those written out."""

    direction: Literal["import", "export"]
    interface: str
    name: str
    type: str
    structure: str
    source: str

    @property
    def path(self) -> str:
        return f"{self.interface}.{self.name}" if self.interface else self.name

    def spellings(self) -> set[str]:
        """By which names it can be asked for: with interface and version, without the version, bare."""
        bare = self.interface.partition("@")[0]
        return {self.path, self.name, f"{bare}.{self.name}"}

    def __str__(self) -> str:
        lines = [f"# {self.direction} {self.path}: {self.type}"]
        if self.structure != self.type:
            lines.append(f"# = {self.structure}")
        return "\n".join([*lines, self.source])


def listings(world: World, uses: tuple[ImportUse, ...], name: str | None) -> list[Listing]:
    """Of the imports that code refers to and of all exports, or of those called `name`. Raises `NoSuchFunction`."""
    found = [*_imports(world, uses), *_exports(world)]
    if name is None:
        return found
    chosen = [one for one in found if name in one.spellings()]
    if not chosen:
        near = difflib.get_close_matches(name, sorted({name for one in found for name in one.spellings()}), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise NoSuchFunction(f"the component neither exports nor calls a function {name!r}{hint}")
    return chosen


def _imports(world: World, uses: tuple[ImportUse, ...]) -> Iterator[Listing]:
    called = {(use.interface, use.name) for use in uses}
    for interface in world.imports:
        for func in interface.functions:
            if func.type is not None and (interface.name, func.name) in called:
                text = function_text(world, interface, func)
                source = host_code(func.type, interface.path_of(func)).source
                yield Listing("import", interface.name, func.name, text, format_func(func.type), source)


def _exports(world: World) -> Iterator[Listing]:
    for interface, func in world.exported_functions():
        if func.type is not None:
            text, source = function_text(world, interface, func), export_code(func.type).source
            yield Listing("export", interface.name, func.name, text, format_func(func.type), source)

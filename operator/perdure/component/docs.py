"""Docs of a `package-docs` section, laid over a world. Pure.

The section describes one package without naming it: it is taken to be the one that has most of the interfaces that
are described, an exported one before others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from perdure.component.custom import InterfaceDocs, Notes, PackageDocs, TypeDocs, WorldDocs
from perdure.component.interfaces import Function, Interface, TypeDefinition, World


def with_docs(world: World, docs: PackageDocs, notes: Notes) -> World:
    """The same world with docs where there are any. What describes nothing that is here is passed over."""
    if docs == PackageDocs():
        return world
    package = _package(world, docs)
    if package is None and docs.interfaces:
        notes.add("the package-docs section describes interfaces that the component does not have")
    said = next(iter(docs.worlds.values())) if len(docs.worlds) == 1 else WorldDocs()
    if len(docs.worlds) > 1:
        notes.add("the package-docs section describes several worlds; which one is the component's it does not say")

    def interface(found: Interface, *, exported: bool) -> Interface:
        if not found.name:
            functions = (
                said.import_functions | said.export_functions
                if exported
                else said.export_functions | said.import_functions
            )
            return _documented(found, InterfaceDocs("", functions, said.types))
        listed = said.imports | said.exports if exported else said.exports | said.imports
        where = listed.get(found.name, InterfaceDocs())
        inner = docs.interfaces.get(found.local_name, InterfaceDocs()) if found.package == package else InterfaceDocs()
        if found.package is None:
            return _documented(found, where)
        return _documented(found, dataclasses.replace(inner, docs=inner.docs or where.docs))

    return dataclasses.replace(
        world,
        imports=tuple(interface(found, exported=False) for found in world.imports),
        exports=tuple(interface(found, exported=True) for found in world.exports),
        docs=said.docs,
        packages={package: docs.docs} if package is not None and docs.docs else {},
    )


def _package(world: World, docs: PackageDocs) -> str | None:
    counts: dict[str, int] = {}
    for found in (*world.exports, *world.imports):
        if found.package is not None and found.local_name in docs.interfaces:
            counts[found.package] = counts.get(found.package, 0) + 1
    return max(counts, key=counts.__getitem__, default=None)


def _documented(interface: Interface, docs: InterfaceDocs) -> Interface:
    return dataclasses.replace(
        interface,
        docs=docs.docs,
        types=tuple(_types(interface.types, docs.types)),
        functions=tuple(_functions(interface.functions, docs.functions)),
    )


def _types(types: Iterable[TypeDefinition], docs: dict[str, TypeDocs]) -> Iterable[TypeDefinition]:
    for found in types:
        said = docs.get(found.name, TypeDocs())
        yield dataclasses.replace(found, docs=said.docs, items=dict(said.items))


def _functions(functions: Iterable[Function], docs: dict[str, str]) -> Iterable[Function]:
    for found in functions:
        yield dataclasses.replace(found, docs=docs.get(found.name, ""))

"""How a component's core modules are put together, worked out once per component.

Each step has a linker of its own. The host's functions are defined in it for good, since they belong to no store; what
a step imports of earlier core instances is defined anew for each instance, from the instance's *board*: an array of
`wasmtime_extern_t`, one for each item that some step imports, filled as the steps are done. (A shared-everything Python
component has 1,800 of them: all that can be prepared, such as names as bytes with their lengths, is.)

A linker is shared by all instances, so from its first definition to the first poll of the instantiation nothing else
may run: wasmtime copies the definitions at that poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import wasmtime

from perdure.component import capi, fiber
from perdure.component.capi import EXTERN_SIZE
from perdure.component.coremodule import module_imports
from perdure.component.imports import CoreImport, CoreSignature
from perdure.component.plan import CanonRef, CoreExport, CoreRef, LinkPlan
from perdure.errors import ComponentError

_Definition = tuple[bytes, int, bytes, int, int]
_KINDS = {
    "i32": wasmtime.ValType.i32,
    "i64": wasmtime.ValType.i64,
    "f32": wasmtime.ValType.f32,
    "f64": wasmtime.ValType.f64,
}


class HostFunctions:
    """Defines the imported core functions of a component in linkers, each under whatever name it is wanted by."""

    def __init__(self, imports: Sequence[CoreImport]) -> None:
        self._imports = imports
        self._types: dict[CoreSignature, wasmtime.FuncType] = {}

    def define(self, linker: wasmtime.Linker, space: bytes, name: bytes, index: int) -> None:
        """The function of canon `index` as `space` `name`."""
        kind = capi.address(self._type(self._imports[index].core).ptr())
        error = capi.linker_define_async(
            capi.address(linker.ptr()), space, len(space), name, len(name), kind, fiber.callback, index, None
        )
        if error:
            raise capi.take_error(error)

    def _type(self, signature: CoreSignature) -> wasmtime.FuncType:
        found = self._types.get(signature)
        if found is None:
            params, results = ([_KINDS[core]() for core in cores] for cores in signature)
            found = self._types[signature] = wasmtime.FuncType(params, results)
        return found


@dataclass(frozen=True, slots=True)
class CoreStep:
    """One core module to instantiate.

    `definitions`: (space, its length, name, its length, offset on the board) of what comes from earlier steps.
    `collected`: (name, its length, offset on the board) of what later steps import.
    """

    module: wasmtime.Module
    linker: wasmtime.Linker
    definitions: tuple[_Definition, ...]
    collected: tuple[tuple[bytes, int, int], ...]

    def begin(self, context: int, board: int, made: int, trap: int, error: int) -> int:
        """The future of the new core instance, which is written to `made`; it must be polled at once."""
        linker, define = capi.address(self.linker.ptr()), capi.linker_define
        for space, space_size, name, name_size, offset in self.definitions:
            failed = define(linker, context, space, space_size, name, name_size, board + offset)
            if failed:
                raise capi.take_error(failed)
        future: int = capi.linker_instantiate(linker, context, capi.address(self.module.ptr()), made, trap, error)
        return future

    def collect(self, context: int, board: int, made: int) -> None:
        """Put what later steps import on the board."""
        get = capi.export_get
        for name, size, offset in self.collected:
            if not get(context, made, name, size, board + offset):
                raise ComponentError(f"malformed component: a core module has no export {name!r}")


class Template:
    """`steps` in order; `offsets`: where on an instance's board an item is; `board_size` in bytes."""

    def __init__(
        self,
        engine: wasmtime.Engine,
        plan: LinkPlan,
        modules: Sequence[wasmtime.Module],
        functions: HostFunctions,
    ) -> None:
        self.offsets: dict[CoreRef, int] = {}
        for step in plan.steps:
            for ref in step.imports:
                if isinstance(ref, CoreExport):
                    self.offsets.setdefault(ref, len(self.offsets) * EXTERN_SIZE)
        self.board_size = len(self.offsets) * EXTERN_SIZE
        wanted: list[list[CoreExport]] = [[] for _ in plan.steps]
        for ref in self.offsets:
            assert isinstance(ref, CoreExport)
            wanted[ref.instance].append(ref)
        names = [module_imports(module) for module in plan.modules]
        steps = []
        for step, exports in zip(plan.steps, wanted, strict=True):
            module = modules[step.module]
            linker = wasmtime.Linker(engine)
            linker.allow_shadowing = True
            definitions: list[_Definition] = []
            for (space_text, name_text, _), ref in zip(names[step.module], step.imports, strict=True):
                space, name = space_text.encode(), name_text.encode()
                if isinstance(ref, CanonRef):
                    functions.define(linker, space, name, ref.index)
                else:
                    definitions.append((space, len(space), name, len(name), self.offsets[ref]))
            exported = [(ref.name.encode(), self.offsets[ref]) for ref in exports]
            collected = tuple((name, len(name), offset) for name, offset in exported)
            steps.append(CoreStep(module, linker, tuple(definitions), collected))
        self.steps = tuple(steps)

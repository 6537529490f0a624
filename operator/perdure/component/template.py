"""How a component's core modules are put together, worked out once per component.

Each step has a linker of its own. The host's functions are defined in it for good, since they belong to no store; what
a step imports of earlier core instances is defined anew for each instance, from the instance's *board*: an array of
`wasmtime_extern_t`, one for each item that some step imports, filled as the steps are done. (A shared-everything Python
component has 1,800 of them: all that can be prepared, such as names as bytes with their lengths, is.)

Only trampolines import functions of the host; their groups are steps of their own among those of the plan.

A linker is shared by all instances, so from its first definition to the first poll of the instantiation nothing else
may run: wasmtime copies the definitions at that poll.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import wasmtime

from perdure.component import boundary, capi
from perdure.component.capi import EXTERN_SIZE
from perdure.component.coremodule import module_imports
from perdure.component.plan import CanonRef, CoreExport, CoreRef, LinkPlan
from perdure.component.trampolines import GUEST, HOST, CoreSignature, Group
from perdure.errors import ComponentError

_Definition = tuple[bytes, int, bytes, int, int]
_KINDS = {
    "i32": wasmtime.ValType.i32,
    "i64": wasmtime.ValType.i64,
    "f32": wasmtime.ValType.f32,
    "f64": wasmtime.ValType.f64,
}


class _HostFunctions:
    """Defines in a linker what a group imports of the host."""

    def __init__(self) -> None:
        self._types: dict[CoreSignature, wasmtime.FuncType] = {}

    def define(self, linker: wasmtime.Linker, group: Group) -> None:
        at, space = capi.address(linker.ptr()), HOST.encode()
        for one in group.imports:
            name, kind = one.name.encode(), capi.address(self._type(one.signature).ptr())
            where = (at, space, len(space), name, len(name), kind)
            if one.canon is not None:
                error = capi.linker_define_unchecked(*where, boundary.BEGIN, one.canon, None)
            elif one.suspends:
                error = capi.linker_define_async(*where, boundary.WAIT, None, None)
            else:
                error = capi.linker_define_unchecked(*where, boundary.NEXT, None, None)
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
    """One core module to instantiate, as core instance `instance`.

    `definitions`: (space, its length, name, its length, offset on the board) of what comes from earlier steps.
    `collected`: (name, its length, offset on the board) of what later steps import.
    """

    instance: int
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
        groups: Sequence[Group],
        trampolines: Sequence[wasmtime.Module],
    ) -> None:
        self.offsets: dict[CoreRef, int] = {}
        wanted: list[CoreRef] = [ref for step in plan.steps for ref in step.imports]
        wanted += [ref for group in groups for ref in (*group.reallocs, *map(CanonRef, group.canons))]
        exports: dict[int, list[tuple[str, CoreRef]]] = {}
        for ref in wanted:
            if ref not in self.offsets:
                self.offsets[ref] = len(self.offsets) * EXTERN_SIZE
                if isinstance(ref, CoreExport):
                    exports.setdefault(ref.instance, []).append((ref.name, ref))
        for group in groups:
            exports[group.instance] = [(str(index), CanonRef(index)) for index in group.canons]
        self.board_size = len(self.offsets) * EXTERN_SIZE
        names = [module_imports(module) for module in plan.modules]
        functions = _HostFunctions()
        before: dict[int, list[CoreStep]] = {}
        for group, module in zip(groups, trampolines, strict=True):
            linker = _linker(engine)
            functions.define(linker, group)
            reallocs = ((GUEST, str(number), ref) for number, ref in enumerate(group.reallocs))
            made = CoreStep(
                group.instance, module, linker, self._definitions(reallocs), self._collected(exports, group.instance)
            )
            before.setdefault(group.before, []).append(made)
        steps: list[CoreStep] = []
        for step in plan.steps:
            steps += before.pop(step.instance, ())
            imports = (
                (space, name, ref) for (space, name, _), ref in zip(names[step.module], step.imports, strict=True)
            )
            steps.append(
                CoreStep(
                    step.instance,
                    modules[step.module],
                    _linker(engine),
                    self._definitions(imports),
                    self._collected(exports, step.instance),
                )
            )
        self.steps = (*steps, *before.pop(len(plan.steps), ()))

    def _definitions(self, imports: Iterable[tuple[str, str, CoreRef]]) -> tuple[_Definition, ...]:
        encoded = ((space.encode(), name.encode(), self.offsets[ref]) for space, name, ref in imports)
        return tuple((space, len(space), name, len(name), offset) for space, name, offset in encoded)

    def _collected(
        self, exports: dict[int, list[tuple[str, CoreRef]]], instance: int
    ) -> tuple[tuple[bytes, int, int], ...]:
        encoded = ((name.encode(), self.offsets[ref]) for name, ref in exports.get(instance, ()))
        return tuple((name, len(name), offset) for name, offset in encoded)


def _linker(engine: wasmtime.Engine) -> wasmtime.Linker:
    made = wasmtime.Linker(engine)
    made.allow_shadowing = True
    return made

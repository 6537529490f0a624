"""The core instances of one instance of a component, and the addresses of their items for the C API."""

from __future__ import annotations

import ctypes

import wasmtime

from perdure.component import capi
from perdure.component.capi import EXTERN_OF, EXTERN_SIZE, INSTANCE_SIZE
from perdure.component.plan import CanonRef, CoreRef
from perdure.component.template import Template
from perdure.component.traps import AbiTrap, guest_trap


class CoreItems:
    """Steps of the template are done in order: `begin`, then, when its future is done, `collect`."""

    def __init__(self, template: Template, functions: wasmtime.Linker, context: int) -> None:
        self._template = template
        self._functions = functions
        self._context = context
        self._board = (ctypes.c_ubyte * template.board_size)()
        self._instances = (ctypes.c_ubyte * (INSTANCE_SIZE * len(template.steps)))()
        self._others: dict[CoreRef, ctypes.Array[ctypes.c_ubyte]] = {}

    def begin(self, number: int, trap: int, error: int) -> int:
        """The future of core instance `number`; it must be polled at once. `trap`, `error`: out-pointers."""
        step = self._template.steps[number]
        return step.begin(self._context, ctypes.addressof(self._board), self._instance(number), trap, error)

    def collect(self, number: int) -> None:
        """Core instance `number` is there: put on the board what others import of it."""
        self._template.steps[number].collect(self._context, ctypes.addressof(self._board), self._instance(number))

    def address(self, ref: CoreRef) -> int:
        """Of the C API's handle of a core function, memory, global or table."""
        offset = self._template.offsets.get(ref)
        if offset is not None:
            return ctypes.addressof(self._board) + offset + EXTERN_OF
        found = self._others.get(ref)
        if found is None:
            found = self._others[ref] = self._looked_up(ref)
        return ctypes.addressof(found) + EXTERN_OF

    def clear(self) -> None:
        """The store is gone, and what it held with it."""
        self._others.clear()

    def _instance(self, number: int) -> int:
        return ctypes.addressof(self._instances) + number * INSTANCE_SIZE

    def _looked_up(self, ref: CoreRef) -> ctypes.Array[ctypes.c_ubyte]:
        made = (ctypes.c_ubyte * EXTERN_SIZE)()
        at = ctypes.addressof(made)
        if isinstance(ref, CanonRef):
            name, linker = b"%d" % ref.index, capi.address(self._functions.ptr())
            there = capi.linker_get(linker, self._context, b"", 0, name, len(name), at)
        else:
            name = ref.name.encode()
            there = capi.export_get(self._context, self._instance(ref.instance), name, len(name), at)
        if not there:
            raise guest_trap(AbiTrap(f"the component has no core item {ref}"))
        return made

"""The core instances of one instance of a component, and the addresses of their items for the C API."""

from __future__ import annotations

import ctypes

from perdure.component import capi
from perdure.component.capi import EXTERN_OF, EXTERN_SIZE, INSTANCE_SIZE
from perdure.component.plan import CoreExport, CoreRef
from perdure.component.template import CoreStep, Template
from perdure.component.traps import AbiTrap, guest_trap


class CoreItems:
    """Steps of the template are done in order: `begin`, then, when its future is done, `collect`."""

    def __init__(self, template: Template, context: int) -> None:
        self._template = template
        self._context = context
        self._board = (ctypes.c_ubyte * template.board_size)()
        self._instances = (ctypes.c_ubyte * (INSTANCE_SIZE * len(template.steps)))()
        self._others: dict[CoreRef, ctypes.Array[ctypes.c_ubyte]] = {}

    def begin(self, step: CoreStep, trap: int, error: int) -> int:
        """The future of the step's core instance; it must be polled at once. `trap`, `error`: out-pointers."""
        return step.begin(self._context, ctypes.addressof(self._board), self._instance(step.instance), trap, error)

    def collect(self, step: CoreStep) -> None:
        """The step's core instance is there: put on the board what others import of it."""
        step.collect(self._context, ctypes.addressof(self._board), self._instance(step.instance))

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
        there = False
        if isinstance(ref, CoreExport):
            name = ref.name.encode()
            there = capi.export_get(self._context, self._instance(ref.instance), name, len(name), at)
        if not there:
            raise guest_trap(AbiTrap(f"the component has no core item {ref}"))
        return made

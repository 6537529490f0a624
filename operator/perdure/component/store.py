"""wasmtime's store of one instance: its limits, its slices of time, and that it outlives what runs in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wasmtime

from perdure.component import capi

if TYPE_CHECKING:
    from perdure.component.engine import Engine
    from perdure.component.instance import InstanceLimits


class GuestStore(wasmtime.Store):
    """Freed after the last future that is pending in it, whichever of them the garbage collector meets first: a future
    is a fiber within the store, and to delete it later than the store would end the process."""

    def __init__(self, engine: Engine, limits: InstanceLimits) -> None:
        self._pending = 0
        self._closing: Any = None
        super().__init__(engine.wasmtime)
        self.set_limits(
            memory_size=limits.memory,
            table_elements=limits.table_elements,
            tables=limits.tables,
            memories=limits.memories,
        )
        self.set_epoch_deadline(1)
        self.address = capi.address(self._context())
        capi.epoch_yield(self.address, 1)

    def begin(self) -> None:
        """A future is pending from now on."""
        self._pending += 1

    def end(self, future: int) -> None:
        """Delete what was pending."""
        capi.future_delete(future)
        self._pending -= 1
        if not self._pending and self._closing is not None:
            closing, self._closing = self._closing, None
            super()._delete(closing)

    def _delete(self, ptr: Any) -> None:
        if self._pending:
            self._closing = ptr
        else:
            super()._delete(ptr)

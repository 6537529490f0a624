"""The components that instances of one Worker run on: the present one, and former ones as they are needed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from perdure.component.component import BoundComponent
from perdure.durable.snapshots import SnapshotSupport

MAX_FORMER = 4
"""Former components kept loaded; beyond, the one used longest ago is let go once its last instance is."""


class Code:
    """One component as the engine uses it. Its functions by path, its snapshots prepared when first needed."""

    def __init__(self, bound: BoundComponent) -> None:
        self.bound = bound
        self.digest = bound.component.digest
        self.functions = {func.path: func for func in bound.component.exports}
        self._support: SnapshotSupport | None = None
        self._preparing = asyncio.Lock()

    async def support(self) -> SnapshotSupport:
        """Raises nothing of its own: a component that cannot be captured says so in `refusal`."""
        async with self._preparing:
            if self._support is None:
                self._support = await SnapshotSupport.prepare(self.bound)
            return self._support

    def close(self) -> None:
        """Free the initial image; idempotent."""
        if self._support is not None:
            self._support.close()
            self._support = None


class ComponentLibrary:
    """`load` fetches and compiles a former component by digest; None: it is not available any more."""

    def __init__(self, present: BoundComponent, load: Callable[[str], Awaitable[BoundComponent | None]]) -> None:
        self.present = Code(present)
        self._load = load
        self._former: OrderedDict[str, Code] = OrderedDict()

    async def find(self, digest: str) -> Code | None:
        """Raises `ComponentError`, `ProviderUnavailable`."""
        if digest == self.present.digest:
            return self.present
        found = self._former.get(digest)
        if found is None:
            bound = await self._load(digest)
            if bound is None:
                return None
            found = self._former.setdefault(digest, Code(bound))
        self._former.move_to_end(digest)
        while len(self._former) > MAX_FORMER:
            # Instances hold their component themselves: this only ends the keeping.
            self._former.popitem(last=False)
        return found

    def close(self) -> None:
        """Free initial images; idempotent."""
        for code in (self.present, *self._former.values()):
            code.close()

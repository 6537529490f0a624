"""Whether tables, and globals that hold references, still hold what instantiation put there.

A reference means nothing outside its instance, so a snapshot holds none: a fresh instance has those that data and
element segments give it, and that is right only where nothing else was ever put there. Comparing costs a call into
wasmtime for each element, so only what could have changed is watched (`state.StateLayout.references`).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from perdure.component import capi
from perdure.component.capi import FUNCREF, RAW, VAL_OF, VAL_SIZE
from perdure.component.plan import CoreExport

if TYPE_CHECKING:
    from perdure.component.instance import Instance

_Content: TypeAlias = "tuple[int | None, ...]"
_OBJECT = -1


class ReferenceWatch:
    """Of one instance. `settle` when it is instantiated; `changed` at any later time."""

    __slots__ = ("_at_first", "_by_start", "_items")

    def __init__(self, items: Sequence[CoreExport]) -> None:
        self._items = items
        self._at_first: dict[CoreExport, _Content] = {}
        self._by_start: CoreExport | None = None

    @contextmanager
    def during_start(self, instance: Instance, step: int) -> Iterator[None]:
        """While the start function of core instance `step` runs. Later ones do not exist yet."""
        items = [item for item in self._items if item.instance <= step]
        before = {item: _content(instance, item) for item in items}
        yield
        self._by_start = self._by_start or _first_difference(instance, before)

    def settle(self, instance: Instance) -> None:
        self._at_first = {item: _content(instance, item) for item in self._items}

    def changed(self, instance: Instance) -> CoreExport | None:
        """One whose content is not what the segments put there, if any."""
        return self._by_start or _first_difference(instance, self._at_first)


def _first_difference(instance: Instance, before: dict[CoreExport, _Content]) -> CoreExport | None:
    for item, content in before.items():
        if _OBJECT in content or _content(instance, item) != content:
            return item
    return None


def _content(instance: Instance, item: CoreExport) -> _Content:
    """Each element as a number: 0 null, -1 an object of the GC heap, else the function's address."""
    value = (ctypes.c_ubyte * VAL_SIZE)()
    at = ctypes.addressof(value)
    context, reference = instance.context, instance.item(item)
    if item.kind == "global":
        capi.global_get(context, reference, at)
        return (_number(context, at),)
    found = []
    for index in range(capi.table_size(context, reference)):
        capi.table_get(context, reference, index, at)
        found.append(_number(context, at))
    return tuple(found)


def _number(context: int, at: int) -> int:
    store: int = struct.unpack_from("<Q", RAW, at + VAL_OF)[0]
    if store == 0:
        return 0
    if RAW[at] == FUNCREF:
        return capi.func_to_raw(context, at + VAL_OF) or 0
    capi.value_unroot(at)
    return _OBJECT

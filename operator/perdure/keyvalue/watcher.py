"""What a guest exports to be told of changes: `watcher` (G3, G4) and `handle-watch` (G1, G2).

Such a call is an invocation like any other. Its canonical arguments are a JSON array: the bucket's name in the
manifest, the key, and of `on-set` the value in base64. The guest gets the bucket as a handle that is open already.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from perdure.component.plan import ExportedFunc
from perdure.component.types import BorrowType, ListType, OwnType, PrimType, ValueType
from perdure.keyvalue.bucket import Bucket
from perdure.keyvalue.generations import generation, split
from perdure.keyvalue.store import OpenBucket
from perdure.keyvalue.values import IncomingValue

INTERFACES = "wasi:keyvalue/watcher or handle-watch"
_NAMES = ("watcher", "handle-watch")
_SET, _DELETE = "on-set", "on-delete"


@dataclass(frozen=True, slots=True)
class Watcher:
    """The two functions of one interface."""

    on_set: ExportedFunc
    on_delete: ExportedFunc

    def call(self, bucket: str, key: str, value: bytes | None) -> tuple[ExportedFunc, bytes]:
        """The function to call for a change (None: the key was deleted), and its canonical arguments."""
        if value is None:
            return self.on_delete, _encoded([bucket, key])
        return self.on_set, _encoded([bucket, key, base64.b64encode(value).decode()])


def is_watcher(func: ExportedFunc) -> bool:
    """Whether it is one of these functions, with the parameters that its generation has."""
    found = split(func.interface)
    if found is None or found[0] not in _NAMES or generation(func.interface) is None or func.type.result is not None:
        return False
    kinds = [kind for _, kind in func.type.params]
    if func.name not in (_SET, _DELETE) or len(kinds) != (3 if func.name == _SET else 2):
        return False
    return _is_handle(kinds[0], "bucket") and kinds[1] == PrimType("string") and all(map(_is_value, kinds[2:]))


def watcher_of(exports: Iterable[ExportedFunc]) -> Watcher | None:
    """What a component exports of it; of several generations the latest."""
    by_interface: dict[str, dict[str, ExportedFunc]] = {}
    for func in filter(is_watcher, exports):
        by_interface.setdefault(func.interface, {})[func.name] = func
    whole = [name for name, functions in by_interface.items() if set(functions) == {_SET, _DELETE}]
    if not whole:
        return None
    latest = by_interface[max(whole, key=lambda name: (generation(name) or "", name))]
    return Watcher(latest[_SET], latest[_DELETE])


def values_of(func: ExportedFunc, arguments: bytes, reopen: Callable[[str], Bucket]) -> list[object]:
    """What to call the function with. `reopen`: opens a bucket without a trace."""
    name, key, *rest = json.loads(arguments)
    bucket = reopen(name)
    handle = OpenBucket(bucket) if generation(func.interface) in ("G3", "G4") else bucket
    values: list[object] = [handle, key]
    for text in rest:
        data = base64.b64decode(text)
        values.append(IncomingValue(data) if _is_handle(func.type.params[2][1], "incoming-value") else data)
    return values


def _is_handle(kind: ValueType, name: str) -> bool:
    return isinstance(kind, (OwnType, BorrowType)) and kind.resource.name == name


def _is_value(kind: ValueType) -> bool:
    return kind == ListType(PrimType("u8")) or _is_handle(kind, "incoming-value")


def _encoded(values: list[str]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

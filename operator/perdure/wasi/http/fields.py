"""The resource `fields`: headers and trailers, in the order in which they were added."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok, Variant
from perdure.wasi.http.messages import FORBIDDEN, MAX_FIELDS, TOKEN, VALUE
from perdure.wasi.state import WasiContext

_INVALID = Err(Variant("invalid-syntax"))
_PER_FIELD = 32
"""What a field counts beside its bytes, so that empty ones have a bound too."""


class Fields:
    """`immutable`: a part of a message."""

    def __init__(self, entries: Iterable[tuple[str, bytes]] = (), *, immutable: bool = False) -> None:
        self.entries = list(entries)
        self.immutable = immutable
        self._size = _size_of(self.entries)

    def values(self, name: str) -> list[bytes]:
        wanted = name.lower()
        return [value for known, value in self.entries if known.lower() == wanted]

    def add(self, name: str, value: bytes) -> None:
        self._size += len(name) + len(value) + _PER_FIELD
        if self._size > MAX_FIELDS:
            raise HostTrap(f"the guest made HTTP fields of more than {MAX_FIELDS:,} bytes")
        self.entries.append((name, value))

    def remove(self, name: str) -> None:
        wanted = name.lower()
        self.entries = [(known, value) for known, value in self.entries if known.lower() != wanted]
        self._size = _size_of(self.entries)


def _size_of(entries: list[tuple[str, bytes]]) -> int:
    return sum(len(name) + len(value) + _PER_FIELD for name, value in entries)


def _refusal(fields: Fields | None, name: str, values: Iterable[bytes]) -> Err | None:
    if fields is not None and fields.immutable:
        return Err(Variant("immutable"))
    if not TOKEN.fullmatch(name) or not all(VALUE.fullmatch(value) for value in values):
        return _INVALID
    return Err(Variant("forbidden")) if name.lower() in FORBIDDEN else None


def new(ctx: WasiContext) -> Fields:
    return Fields()


def from_list(ctx: WasiContext, entries: list[tuple[str, bytes]]) -> Ok | Err:
    made = Fields()
    for name, value in entries:
        refused = _refusal(None, name, (value,))
        if refused is not None:
            return refused
        made.add(name, bytes(value))
    return Ok(made)


def get(ctx: WasiContext, fields: Fields, name: str) -> list[bytes]:
    return fields.values(name)


def has(ctx: WasiContext, fields: Fields, name: str) -> bool:
    return bool(fields.values(name))


def set_values(ctx: WasiContext, fields: Fields, name: str, values: list[bytes]) -> Ok | Err:
    refused = _refusal(fields, name, values)
    if refused is not None:
        return refused
    fields.remove(name)
    for value in values:
        fields.add(name, bytes(value))
    return Ok()


def delete(ctx: WasiContext, fields: Fields, name: str) -> Ok | Err:
    refused = _refusal(fields, name, ())
    if refused is not None:
        return refused
    fields.remove(name)
    return Ok()


def append(ctx: WasiContext, fields: Fields, name: str, value: bytes) -> Ok | Err:
    refused = _refusal(fields, name, (value,))
    if refused is not None:
        return refused
    fields.add(name, bytes(value))
    return Ok()


def entries_of(ctx: WasiContext, fields: Fields) -> list[tuple[str, bytes]]:
    return list(fields.entries)


def clone(ctx: WasiContext, fields: Fields) -> Fields:
    return Fields(fields.entries)

"""As much of the core module format as the runtime needs (core specification, "Binary Format: Modules"): the imports,
what state an instance will have, and a rewriting that lets the host reach that state.

The rewriting (`expose`) touches two sections. The export section gets every memory, every mutable global and every
table the module defines, under names that it cannot have already. The start section becomes an export too, so that
the host decides when, and whether, the start function runs. Code is untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perdure.component.decode.reader import Reader
from perdure.component.decode.typedefs import skip_core_extern
from perdure.component.instructions import skip_expression, skip_value_type

REWRITING = 1
"""Changes with what `expose` does: compiled code is kept under it."""

_TYPE, _IMPORT, _TABLE, _MEMORY, _GLOBAL, _EXPORT, _START, _CODE = 1, 2, 4, 5, 6, 7, 8, 10
# The export section and all that may come after it: elements, data count, code and data.
_FROM_EXPORTS = (_EXPORT, _START, 9, 12, _CODE, 11)
_GROUP, _GROUP_OF_ONE_KIND = 0x7F, 0x7E
_NUMERIC = (0x7F, 0x7E, 0x7D, 0x7C, 0x7B)
_EXPORT_KIND = {"func": 0, "table": 1, "memory": 2, "global": 3}


def module_imports(data: bytes) -> tuple[tuple[str, str, str], ...]:
    """(module, name, kind) of each import. Raises `ComponentError` on malformed bytes."""
    for section, body in _sections(data):
        if section == _IMPORT:
            return tuple(_imports(body))
    return ()


@dataclass(frozen=True, slots=True)
class CoreModule:
    """What a module's instances consist of. Indices are the module's own; imported items are others' state.

    `globals`: the mutable ones of number and vector types; `reference_globals`: the mutable ones of reference types.
    `start`: the start function's index. `heap_types`: it defines struct or array types.
    """

    memories: tuple[int, ...]
    globals: tuple[int, ...]
    reference_globals: tuple[int, ...]
    tables: tuple[int, ...]
    start: int | None
    heap_types: bool
    prefix: str

    def name(self, kind: str, index: int) -> str:
        """The export under which `expose` makes an item reachable; kind is that of the export."""
        return f"{self.prefix}{kind[0]}{index}"


def read_module(data: bytes) -> CoreModule:
    """Raises `ComponentError` on malformed bytes."""
    imported = dict.fromkeys(_EXPORT_KIND, 0)
    memories = tables = 0
    globals_: list[tuple[int, bool]] = []
    exports = b""
    start: int | None = None
    heap_types = False
    for section, body in _sections(data):
        if section == _TYPE:
            heap_types = _has_heap_types(body)
        elif section == _IMPORT:
            for _, _, kind in _imports(body):
                imported[kind] = imported.get(kind, 0) + 1
        elif section == _TABLE:
            tables = _count(body)
        elif section == _MEMORY:
            memories = _count(body)
        elif section == _GLOBAL:
            globals_ = list(body.vector(_global))
        elif section == _EXPORT:
            exports = body.take(body.left)
        elif section == _START:
            start = body.u32()
    mutable = [(imported["global"] + at, kind) for at, (kind, changes) in enumerate(globals_) if changes]
    prefix = "\x01@"
    while prefix.encode() in exports:
        prefix += "@"
    return CoreModule(
        memories=tuple(range(imported["memory"], imported["memory"] + memories)),
        globals=tuple(index for index, kind in mutable if kind in _NUMERIC),
        reference_globals=tuple(index for index, kind in mutable if kind not in _NUMERIC),
        tables=tuple(range(imported["table"], imported["table"] + tables)),
        start=start,
        heap_types=heap_types,
        prefix=prefix,
    )


def expose(data: bytes, module: CoreModule) -> bytes:
    """The module with its state and its start function exported."""
    items: list[tuple[str, int]] = [("memory", index) for index in module.memories]
    items += [("global", index) for index in (*module.globals, *module.reference_globals)]
    items += [("table", index) for index in module.tables]
    if module.start is not None:
        items.append(("func", module.start))
    if not items:
        return data
    added = b"".join(
        sized(module.name(kind, index).encode()) + bytes([_EXPORT_KIND[kind]]) + encoded_u32(index)
        for kind, index in items
    )
    parts = [data[:8]]
    copied = 8
    pending = True
    for section, body in _sections(data):
        if pending and section in _FROM_EXPORTS:
            pending = False
            count = body.u32() if section == _EXPORT else 0
            own = data[body.position : body.end] if section == _EXPORT else b""
            parts.append(encoded_section(_EXPORT, encoded_u32(count + len(items)) + own + added))
        if section not in (_EXPORT, _START):
            parts.append(data[copied : body.end])
        copied = body.end
    if pending:
        parts.append(encoded_section(_EXPORT, encoded_u32(len(items)) + added))
    return b"".join(parts)


def function_bodies(data: bytes) -> Iterator[Reader]:
    """A reader of each function's body, locals first."""
    for section, body in _sections(data):
        if section == _CODE:
            for _ in range(body.u32()):
                yield body.sub(body.u32())


def _sections(data: bytes) -> Iterator[tuple[int, Reader]]:
    r = Reader(data, 8)
    while r.left:
        section = r.byte()
        yield section, r.sub(r.u32())


def _imports(r: Reader) -> Iterator[tuple[str, str, str]]:
    """(module, name, kind) of each import. An entry without a name may be a group of one module's imports: each with
    its description, or all with the same one (proposal "Compact Import Section")."""
    for _ in range(_count(r)):
        module, name = r.name(), r.name()
        form = r.peek()
        if name == "" and form in (_GROUP, _GROUP_OF_ONE_KIND):
            r.byte()
            kind = skip_core_extern(r) if form == _GROUP_OF_ONE_KIND else ""
            for _ in range(_count(r)):
                yield module, r.name(), kind or skip_core_extern(r)
        else:
            yield module, name, skip_core_extern(r)


def _count(r: Reader) -> int:
    count = r.u32()
    if count > r.left:
        raise r.fail("a count larger than what follows")
    return count


def _global(r: Reader) -> tuple[int, bool]:
    """(type, whether it can change) of a definition."""
    kind = skip_value_type(r)
    flags = r.byte()
    skip_expression(r)
    return kind, bool(flags & 1)


def _has_heap_types(r: Reader) -> bool:
    """Whether a type section defines anything but functions; what follows the first such type is not read."""
    groups = r.u32()
    for _ in range(groups):
        count = 1
        if r.peek() == 0x4E:
            r.byte()
            count = r.u32()
        for _ in range(count):
            if r.peek() in (0x4F, 0x50):
                r.byte()
                r.vector(Reader.u32)
            if r.byte() != 0x60:
                return True
            r.vector(skip_value_type)
            r.vector(skip_value_type)
    return False


def encoded_section(number: int, body: bytes) -> bytes:
    return bytes([number]) + sized(body)


def sized(data: bytes) -> bytes:
    """Bytes after their length."""
    return encoded_u32(len(data)) + data


def encoded_vector(items: Sequence[bytes]) -> bytes:
    return encoded_u32(len(items)) + b"".join(items)


def encoded_u32(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

"""Components put together from well-formed definitions whose indices and sorts are drawn: most are wrong, but only deep
inside, where linking resolves them."""

from __future__ import annotations

from collections.abc import Callable

from fuzz.binary import CORE_HEADER, component, extern, leb, name, section, vec
from support.generated.source import Source, one_in, pick

Make = Callable[[Source], bytes]
_NAMES = ("a", "b", "f", "m", "t", "a:b/c", "a:b/c@0.1.0", "")
_PRIMITIVES = tuple(bytes([code]) for code in range(0x73, 0x80))
_SORTS = (
    b"\x01",
    b"\x03",
    b"\x04",
    b"\x05",
    b"\0\0",
    b"\0\x01",
    b"\0\x02",
    b"\0\x03",
    b"\0\x10",
    b"\0\x11",
    b"\0\x12",
    b"\x02",
)


def _index(s: Source) -> bytes:
    return leb(s.integer(0, 3) if not one_in(s, 8) else pick(s, (7, 100, 1 << 20, (1 << 32) - 1)))


def _name(s: Source) -> bytes:
    return name(pick(s, _NAMES))


def _extern(s: Source) -> bytes:
    return extern(pick(s, _NAMES))


def _value(s: Source) -> bytes:
    return pick(s, _PRIMITIVES) if one_in(s, 2) else _index(s)


def _maybe(s: Source, make: Make) -> bytes:
    return b"\x01" + make(s) if one_in(s, 2) else b"\0"


def _some(s: Source, make: Make, most: int = 3) -> bytes:
    return vec([make(s) for _ in range(s.integer(0, most))])


def _sort_index(s: Source) -> bytes:
    return pick(s, _SORTS) + _index(s)


def _extern_type(s: Source) -> bytes:
    return pick(s, (b"\x01", b"\x03\0", b"\x05", b"\x04", b"\0\x11")) + _index(s) if not one_in(s, 5) else b"\x03\x01"


def _field(s: Source) -> bytes:
    return _name(s) + _value(s)


def _case(s: Source) -> bytes:
    return _name(s) + _maybe(s, _value) + b"\0"


def _type(s: Source, depth: int = 0) -> bytes:
    form = s.integer(0, 15 if depth < 3 else 13)
    match form:
        case 0:
            return pick(s, _PRIMITIVES)
        case 1:
            return b"\x72" + _some(s, _field)
        case 2:
            return b"\x71" + _some(s, _case)
        case 3:
            return b"\x70" + _value(s)
        case 4:
            return b"\x6f" + _some(s, _value)
        case 5:
            return b"\x6e" + _some(s, _name)
        case 6:
            return b"\x6d" + _some(s, _name)
        case 7:
            return b"\x6b" + _value(s)
        case 8:
            return b"\x6a" + _maybe(s, _value) + _maybe(s, _value)
        case 9:
            return pick(s, (b"\x69", b"\x68")) + _index(s)
        case 10 | 11:
            return b"\x40" + _some(s, _field) + (b"\0" + _value(s) if one_in(s, 2) else b"\x01\0")
        case 12:
            return b"\x3f\x7f" + _maybe(s, _index)
        case 13:
            return pick(s, (b"\x66\x00", b"\x65\x01\x7f", b"\x64", b"\x67\x7f\x04", b"\x63\x7f\x7f"))
        case _:
            return pick(s, (b"\x42", b"\x41")) + _some(s, lambda s: _declaration(s, depth + 1), 4)


def _declaration(s: Source, depth: int) -> bytes:
    form = s.integer(0, 4)
    if form == 0:
        return b"\x01" + _type(s, depth)
    if form == 1:
        return b"\x02" + _alias(s)
    if form == 4:
        return b"\0\x60\0\0"
    return bytes([form + 1]) + _extern(s) + _extern_type(s)


def _alias(s: Source) -> bytes:
    target = s.integer(0, 2)
    rest = leb(s.integer(0, 2)) + _index(s) if target == 2 else _index(s) + _name(s)
    return pick(s, _SORTS) + bytes([target]) + rest


def _option(s: Source) -> bytes:
    option = s.integer(0, 6)
    return bytes([option]) + (_index(s) if 3 <= option <= 5 else b"")


def _canon(s: Source) -> bytes:
    form = s.integer(0, 5)
    if form <= 1:
        return b"\0\0" + _index(s) + _some(s, _option) + _index(s)
    if form <= 3:
        return b"\x01\0" + _index(s) + _some(s, _option)
    return bytes([s.integer(2, 4) if form == 4 else s.integer(2, 0x48)]) + _index(s)


def _core_instance(s: Source) -> bytes:
    if one_in(s, 2):
        return b"\0" + _index(s) + _some(s, lambda s: _name(s) + b"\x12" + _index(s))
    return b"\x01" + _some(s, lambda s: _name(s) + pick(s, (b"\0", b"\x01", b"\x02", b"\x03", b"\x12")) + _index(s))


def _instance(s: Source) -> bytes:
    if one_in(s, 2):
        return b"\0" + _index(s) + _some(s, lambda s: _name(s) + _sort_index(s))
    return b"\x01" + _some(s, lambda s: _extern(s) + _sort_index(s))


def _core_module(s: Source) -> bytes:
    kinds = (b"\0\0", b"\x02\0\x01", b"\x01\x70\0\x01", b"\x03\x7f\0")
    imports = _some(s, lambda s: _name(s) + _name(s) + pick(s, kinds))
    return CORE_HEADER + section(1, vec([b"\x60\0\0"])) + section(2, imports)


def _import(s: Source) -> bytes:
    return _extern(s) + _extern_type(s)


def _export(s: Source) -> bytes:
    return _extern(s) + _sort_index(s) + _maybe(s, _extern_type)


_ITEMS: dict[int, Make] = {2: _core_instance, 5: _instance, 6: _alias, 7: _type, 8: _canon, 10: _import, 11: _export}


def component_of(s: Source, depth: int = 0) -> bytes:
    """A component of up to a dozen sections."""
    sections = []
    for _ in range(s.integer(1, 12)):
        kind = pick(s, (1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 8, 10, 10, 11))
        if kind == 1:
            sections.append(section(1, _core_module(s)))
        elif kind == 3:
            sections.append(section(3, vec([pick(s, (b"\x60\0\0", b"\x50\0"))])))
        elif kind == 4:
            sections.append(section(4, component_of(s, depth + 1) if depth < 3 else component()))
        else:
            sections.append(section(kind, _some(s, _ITEMS[kind], 4)))
    return component(*sections)

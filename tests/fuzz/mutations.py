"""Ways to spoil a component: bytes, LEB numbers, lengths, whole sections; with the lengths around them put right, or not.

A component is first taken apart into its tree of sections, so that a change goes to the parts the decoder reads (the
bodies of core modules are the validator's), and so that what encloses it can be made to fit again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fuzz.binary import HEADER, leb, read_leb
from support.generated.source import Source, one_in, pick

NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0x3FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 1 << 63)
BYTES = (0x00, 0x01, 0x02, 0x03, 0x40, 0x41, 0x42, 0x43, 0x50, 0x60, 0x62, 0x63, 0x64, 0x68, 0x69, 0x6A, 0x6B, 0x6D, 0x6E,
         0x6F, 0x70, 0x71, 0x72, 0x73, 0x7F, 0x80, 0xFF)  # fmt: skip
_MOST = 1 << 20


@dataclass
class Section:
    """`inner`: the sections of a nested component, whose `body` then counts for nothing."""

    kind: int
    body: bytes
    inner: list[Section] | None = None

    def encode(self) -> bytes:
        body = self.body if self.inner is None else encode(self.inner)
        return bytes([self.kind]) + leb(len(body)) + body


def parse(data: bytes, depth: int = 0) -> list[Section]:
    """The sections of a component that is right, nested ones too."""
    found, at = [], 8
    while at < len(data):
        kind = data[at]
        size, start = read_leb(data, at + 1)
        body = data[start : start + size]
        found.append(Section(kind, body, parse(body, depth + 1) if kind == 4 and depth < 8 else None))
        at = start + size
    return found


def encode(sections: list[Section]) -> bytes:
    return HEADER + b"".join(section.encode() for section in sections)


@dataclass
class Material:
    """A component of the corpus, taken apart."""

    data: bytes
    sections: list[Section] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sections = parse(self.data)


# --- changes of bytes


def _flip(s: Source, data: bytearray) -> None:
    for _ in range(pick(s, (1, 1, 4))):
        data[s.integer(0, len(data) - 1)] ^= 1 << s.integer(0, 7)


def _put(s: Source, data: bytearray) -> None:
    for _ in range(pick(s, (1, 1, 3))):
        data[s.integer(0, len(data) - 1)] = pick(s, BYTES) if one_in(s, 2) else s.integer(0, 255)


def _insert(s: Source, data: bytearray) -> None:
    at = s.integer(0, len(data))
    data[at:at] = bytes(pick(s, BYTES) for _ in range(s.integer(1, 8)))


def _delete(s: Source, data: bytearray) -> None:
    at = s.integer(0, len(data) - 1)
    del data[at : at + s.integer(1, 16)]


def _duplicate(s: Source, data: bytearray) -> None:
    at = s.integer(0, len(data) - 1)
    piece = data[at : at + s.integer(1, 64)]
    to = s.integer(0, len(data))
    data[to:to] = piece * pick(s, (1, 2, 10, 100))


def _number(s: Source, data: bytearray) -> None:
    """A number becomes another, or the same one written longer."""
    at = s.integer(0, len(data) - 1)
    number, end = read_leb(bytes(data[at : at + 10]), 0)
    fresh = pick(s, (number, pick(s, NUMBERS), max(0, number - 1), number + 1))
    data[at : at + end] = leb(fresh, pick(s, (0, 0, 5, 6, 10, 11)))


def _truncate(s: Source, data: bytearray) -> None:
    del data[s.integer(0, len(data) - 1) :]


_CHANGES: tuple[Callable[[Source, bytearray], None], ...] = (
    _flip, _put, _put, _number, _number, _insert, _delete, _duplicate, _truncate,
)  # fmt: skip


def spoil(s: Source, data: bytes) -> bytes:
    """One to four changes anywhere."""
    out = bytearray(data)
    for _ in range(pick(s, (1, 1, 1, 2, 4))):
        if out:
            pick(s, _CHANGES)(s, out)
    return bytes(out[:_MOST])


# --- changes of sections


def _copy(sections: list[Section]) -> list[Section]:
    return [Section(one.kind, one.body, None if one.inner is None else _copy(one.inner)) for one in sections]


def _choose_list(s: Source, sections: list[Section]) -> list[Section]:
    """The outermost list of sections or that of a nested component."""
    while True:
        nested = [one.inner for one in sections if one.inner]
        if not nested or one_in(s, 2):
            return sections
        sections = pick(s, nested)


def _splice(s: Source, sections: list[Section], others: list[Section]) -> None:
    """Sections leave, move, double or come from another component."""
    chosen = _choose_list(s, sections)
    for _ in range(pick(s, (1, 1, 3))):
        if not chosen:
            return
        at, to = s.integer(0, len(chosen) - 1), s.integer(0, len(chosen))
        what = s.integer(0, 5)
        if what == 0:
            del chosen[at]
        elif what == 1:
            chosen.insert(to, chosen[at])
        elif what == 2:
            chosen.insert(min(to, len(chosen) - 1), chosen.pop(at))
        elif what == 3 and others:
            chosen.insert(to, pick(s, others))
        elif what == 4:
            chosen[at] = Section(s.integer(0, 13), chosen[at].body, None)
        else:
            chosen.insert(to, Section(4, b"", _copy(pick(s, (chosen, others)))[:8]))


def _spoil_one(s: Source, sections: list[Section]) -> None:
    """Change bytes within one section that the decoder reads; its length is put right."""
    chosen = _choose_list(s, sections)
    read = [one for one in chosen if one.inner is None and one.body and (one.kind not in (0, 1) or one_in(s, 20))]
    if read:
        victim = pick(s, read)
        victim.body = spoil(s, victim.body)


def mutate(s: Source, materials: list[Material]) -> bytes:
    """A spoiled component."""
    material = pick(s, materials)
    if one_in(s, 5):
        return spoil(s, material.data)
    sections = _copy(material.sections)
    for _ in range(pick(s, (1, 1, 1, 2, 3))):
        if one_in(s, 3):
            _splice(s, sections, pick(s, materials).sections)
        else:
            _spoil_one(s, sections)
    data = encode(sections)
    return (spoil(s, data) if one_in(s, 10) else data)[:_MOST]

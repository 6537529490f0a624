"""What a component's code could do to state that a snapshot does not hold: tables, dropped segments, the GC heap.

Functions that cannot contain such an instruction are ruled out by a search for its first bytes; the others are read
instruction by instruction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from perdure.component import instructions as op
from perdure.component.coremodule import CoreModule, function_bodies
from perdure.component.instructions import Instruction, notable_instructions

SCAN = 1
"""Changes with what the scan finds: results are kept under it."""

_WRITES = {
    op.TABLE_SET: "table.set",
    op.TABLE_INIT: "table.init",
    op.TABLE_COPY: "table.copy",
    op.TABLE_GROW: "table.grow",
    op.TABLE_FILL: "table.fill",
}
# The secondary opcodes 8, 9, 12 to 15 and 17, also when they are encoded in more bytes than needed.
_BULK = rb"\xfc[\x08\x09\x0c-\x0f\x11\x88\x89\x8c-\x8f\x91]"
_SHORT_INDEX = 64


@dataclass(frozen=True, slots=True)
class Hazards:
    """`refusal`: why no instance can be captured. `writes_tables`: the instructions found that change a table, so
    that capturing needs a comparison of tables' contents."""

    refusal: str | None = None
    writes_tables: tuple[str, ...] = ()

    def to_text(self) -> str:
        return json.dumps([SCAN, self.refusal, self.writes_tables])

    @classmethod
    def from_text(cls, text: str) -> Hazards | None:
        """None: another version wrote it."""
        try:
            version, refusal, writes = json.loads(text)
        except ValueError:
            return None
        return cls(refusal, tuple(writes)) if version == SCAN else None


def hazards(modules: Iterable[tuple[bytes, CoreModule]]) -> Hazards:
    """Of a whole component. Raises `ComponentError` on malformed bytes."""
    writes: set[str] = set()
    for data, module in modules:
        if module.heap_types:
            return Hazards("it defines struct or array types, and objects of the GC heap are not captured")
        found = _notable(data, module)
        unknown = next((one for one in found if one.operands is None), None)
        if unknown is not None:
            return Hazards(f"its code has an instruction that is not known here ({unknown.opcode:#x})")
        dropped = _dropped(found)
        if dropped is not None:
            return Hazards(dropped)
        writes.update(_WRITES[one.opcode] for one in found if one.opcode in _WRITES)
    return Hazards(None, tuple(sorted(writes)))


def _notable(data: bytes, module: CoreModule) -> list[Instruction]:
    hint = _hint(module.imported_tables + len(module.tables))
    found: list[Instruction] = []
    for body in function_bodies(data):
        if hint.search(data, body.position, body.end):
            found.extend(notable_instructions(body))
    return found


def _hint(tables: int) -> re.Pattern[bytes]:
    """Matches somewhere in every function that has one of the instructions looked for."""
    if tables == 0:
        return re.compile(_BULK)
    if tables > _SHORT_INDEX:
        return re.compile(rb"\x26|" + _BULK)
    last = tables - 1
    return re.compile(rb"\x26[\x00-\x%02x\x80-\x%02x]|" % (last, 0x80 + last) + _BULK)


def _dropped(found: list[Instruction]) -> str | None:
    """A fresh instance has all its segments; that one was dropped shows only where it is used."""
    for drop, uses, words in (
        (op.DATA_DROP, (op.MEMORY_INIT,), "data.drop and memory.init of data segment"),
        (op.ELEM_DROP, (op.TABLE_INIT,), "elem.drop and table.init of element segment"),
    ):
        dropped = {one.operands[0] for one in found if one.opcode == drop and one.operands}
        used = {one.operands[0] for one in found if one.opcode in uses and one.operands}
        both = dropped & used
        if both:
            return f"its code has {words} {min(both)}, and whether it was dropped is not captured"
    return None

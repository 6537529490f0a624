"""What a component's code could do to state that a snapshot does not hold: tables, dropped segments, the GC heap.

Every function is read instruction by instruction: what is not known could be of a later proposal, and change anything.
That takes a tenth of a second for an interpreter of 6 MB, so the result is kept beside the compiled code.
"""

from __future__ import annotations

import json
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


@dataclass(frozen=True, slots=True)
class Hazards:
    """`refusal`: why no instance can be captured, as (reason, words). `writes_tables`: the instructions found that
    change a table, so that capturing needs a comparison of tables' contents."""

    refusal: tuple[str, str] | None = None
    writes_tables: tuple[str, ...] = ()

    def to_text(self) -> str:
        return json.dumps([SCAN, self.refusal, self.writes_tables])

    @classmethod
    def from_text(cls, text: str) -> Hazards | None:
        """None: another version wrote it, or it is damaged."""
        try:
            match json.loads(text):
                case [version, None, list(writes)] if version == SCAN:
                    found = cls(None, tuple(writes))
                case [version, [str(reason), str(words)], list(writes)] if version == SCAN:
                    found = cls((reason, words), tuple(writes))
                case _:
                    return None
        except (ValueError, RecursionError):
            return None
        return found if all(isinstance(one, str) for one in found.writes_tables) else None


def hazards(modules: Iterable[tuple[bytes, CoreModule]]) -> Hazards:
    """Of a whole component. Raises `ComponentError` on malformed bytes."""
    writes: set[str] = set()
    for data, module in modules:
        if module.heap_types:
            words = "it defines struct or array types, and objects of the GC heap are not captured"
            return Hazards(("gc-objects", words))
        found = [one for body in function_bodies(data) for one in notable_instructions(body)]
        unknown = next((one for one in found if one.operands is None), None)
        if unknown is not None:
            words = f"its code has an instruction that is not known here ({unknown.opcode:#x})"
            return Hazards(("unknown-instruction", words))
        dropped = _dropped(found)
        if dropped is not None:
            return Hazards(("segments-dropped", dropped))
        writes.update(_WRITES[one.opcode] for one in found if one.opcode in _WRITES)
    return Hazards(None, tuple(sorted(writes)))


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

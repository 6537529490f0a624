"""State of every kind, from one call to the next; the functions are those of ../state/wit."""

from __future__ import annotations

from wit_world import exports
from wit_world.imports.host import Note, now, random

_MASK = (1 << 64) - 1
_count = 0
_mixed = 0
_entries: dict[str, str] = {}
_blocks: list[bytes] = []
_notes: list[Note] = []


class State(exports.State):
    def count(self) -> int:
        global _count
        _count += 1
        return _count

    def remember(self, key: str, value: str) -> int:
        _entries[key] = value
        return len(_entries)

    def recall(self, key: str) -> str | None:
        return _entries.get(key)

    def forget(self, key: str) -> bool:
        return _entries.pop(key, None) is not None

    def churn(self, rounds: int) -> int:
        items = [str(number) * 3 for number in range(rounds)]
        return sum(len(item) for item in items)

    def grow(self, size: int) -> int:
        _blocks.append(bytes([len(_blocks) & 255]) * size)
        return sum(len(block) for block in _blocks)

    def stamp(self) -> int:
        global _mixed
        _mixed = ((_mixed << 7 | _mixed >> 57) & _MASK) ^ now() ^ random()
        return _mixed

    def hold(self, name: str) -> int:
        _notes.append(Note(name))
        return len(_notes)

    def write(self, index: int, text: str) -> int:
        return _notes[index].append(text)

    def release(self) -> int:
        if _notes:
            _notes.pop().__exit__(None, None, None)
        return len(_notes)

"""Calls within calls that wait, or do not, at every place and in every order."""

from __future__ import annotations

import asyncio
import random

import pytest

from perdure.component import allocator
from perdure.component.engine import Engine
from support.components import Running, run

# Each level adds to the text before, between and after its calls of the next level, which has another encoding.
LEVEL = """
  (component $LevelN
    (import "note" (func $note (param "text" string) (result string)))
    (import "next" (func $next (param "text" string) (result string)))
    LIBC
    (core func $note' (canon lower (func $note) string-encoding=ENCODING MEMORY))
    (core func $next' (canon lower (func $next) string-encoding=ENCODING MEMORY))
    (core module $M
      (import "" "note" (func $note (param i32 i32 i32)))
      (import "" "next" (func $next (param i32 i32 i32)))
      (import "libc" "memory" (memory 1))
      (func (export "f") (param i32 i32) (result i32)
        (call $note (local.get 0) (local.get 1) (i32.const 8))
        (call $next (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 8))
        (call $note (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 8))
        (call $next (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 8))
        (call $note (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 8))
        (i32.const 8)))
    (core instance $m (instantiate $M
      (with "" (instance (export "note" (func $note')) (export "next" (func $next')))) (with "libc" (instance $libc))))
    (func (export "f") (param "text" string) (result string)
      (canon lift (core func $m "f") string-encoding=ENCODING MEMORY)))
  (instance $levelN (instantiate $LevelN (with "note" (func $note)) (with "next" (func BELOW))))
"""
LEVELS = 3
"""The innermost level's next is the host too."""
NOTES = 3 * (1 + 2 + 4) + 8


def wat() -> str:
    levels, below = "", "$note"
    for number, encoding in enumerate(("utf8", "utf16", "latin1+utf16")):
        level = LEVEL.replace("LevelN", f"Level{number}").replace("levelN", f"level{number}")
        levels += level.replace("ENCODING", encoding).replace("BELOW", below)
        below = f'$level{number} "f"'
    return f"""
    (component
      (import "note" (func $note (param "text" string) (result string)))
      {levels}
      (export "f" (func {below})))
    """


class Notes:
    """A host function that at random answers at once, after some turns of the loop, or not for a while."""

    def __init__(self, seed: int, *, pause: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.pause = pause
        self.lengths: list[int] = []

    def note(self, cx: object, text: str) -> object:
        self.lengths.append(len(text))
        answer = text + self.random.choice("aäж")
        return self._later(answer) if self.random.random() < 0.6 else answer

    async def _later(self, answer: str) -> str:
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(self.pause)
        return answer


@pytest.fixture
def erratic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's allocator answers at once or after some turns of the loop, as chance has it."""
    chance = random.Random(7)
    answered = allocator.Allocator._prompt

    def at_random(self: allocator.Allocator, future: int) -> bool:
        return chance.random() < 0.5 and answered(self, future)

    monkeypatch.setattr(allocator.Allocator, "_prompt", at_random)


async def start(engine: Engine, notes: Notes) -> Running:
    return await run(engine, wat(), note=notes.note)


@pytest.mark.usefixtures("erratic")
async def test_whatever_waits_the_order_and_the_values_are_the_same(engine: Engine) -> None:
    async def one(seed: int) -> None:
        notes = Notes(seed)
        running = await start(engine, notes)
        for _ in range(2):
            notes.lengths.clear()
            result = await running.call("f", "start")
            assert isinstance(result, str)
            assert len(result) == len("start") + NOTES
            assert notes.lengths == list(range(5, 5 + NOTES))
            assert not running.instance.suspended
            assert running.instance.depth == 0

    await asyncio.gather(*(one(seed) for seed in range(12)))


@pytest.mark.usefixtures("erratic")
async def test_a_call_may_be_cancelled_at_any_moment(engine: Engine) -> None:
    async def one(seed: int) -> bool:
        notes = Notes(seed, pause=0.0005)
        running = await start(engine, notes)
        task = asyncio.ensure_future(running.call("f", "start"))
        for _ in range(seed * 2):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert not running.instance.usable
            assert not running.instance.suspended
            assert running.instance.coroutine is None
            running.instance.close()
            return True
        return False

    cancelled = await asyncio.gather(*(one(seed) for seed in range(1, 41)))
    assert sum(cancelled) >= 20
    notes = Notes(0)
    assert len(str(await (await start(engine, notes)).call("f", ""))) == NOTES

"""The sequential model: what guests that never crash, on stores that never fail, would have answered and left. Pure.

One client acts at a time, and repeats under the same key what was not answered. So each action happens once, in the
order of the scenario, and every answer and every value is determined, but for what the clock gives: of that the model
knows that a memory which saw it keeps it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

Step = dict[str, object] | str
Answer = object
OVERFLOW = "the counter would not fit 64 bits with a sign"


@dataclass
class Memory:
    """One guest's. `digest`: of all it saw, the clock included, as far as it was told since the last call."""

    sum: int = 0
    ended: int = 0
    digest: int | None = None


@dataclass
class Model:
    """`effect`: each write is durable at once, so what a trapped call wrote before its trap stays. `anew`: each call
    begins with a new memory."""

    effect: bool
    anew: bool = field(default=False, kw_only=True)
    buckets: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"near": {}, "far": {}})
    memories: dict[str, Memory] = field(default_factory=dict)

    def run(self, instance: str, steps: Sequence[Step]) -> Answer:
        """The answer of a call that is carried out."""
        memory = self.memory(instance)
        answers = [self._step(memory, step) for step in steps]
        memory.ended += 1
        memory.digest = None
        return answers

    def check(self, instance: str, steps: Sequence[Step], answer: Answer) -> str | None:
        """Carries out a call that was answered so; what is wrong with that."""
        expected = self.run(instance, steps)
        return None if answer == expected else f"the answer is {json.dumps(answer)}, not {json.dumps(expected)}"

    def read(self, steps: Sequence[Step]) -> Answer:
        """The answer of a call that only reads, were it carried out now."""
        return [self._step(Memory(), step) for step in steps]

    def fail(self, steps: Sequence[Step]) -> None:
        """A call that fails behind a gate is carried out once up to there, and no memory knows of it."""
        for step in steps:
            self._step(Memory(), step)

    def trap(self, steps: Sequence[Step]) -> None:
        """A call that traps at its end, once or several times: its writes are the same each time."""
        if self.effect:
            for step in steps:
                if "trap" not in step:
                    self._step(Memory(), step)

    def counted(self, counter: tuple[str, str]) -> bytes:
        """What a counter is; b"": nothing has been added to it."""
        bucket, key = counter
        return self.buckets[bucket].get(key, b"")

    def look(self, instance: str, answer: Answer) -> str | None:
        """Checks the answer of `memory`; what is wrong with it."""
        memory = self.memory(instance)
        if not isinstance(answer, list) or answer[:2] != [memory.sum, memory.ended]:
            return f"memory of {instance}: {answer}, not {[memory.sum, memory.ended]}"
        if memory.digest not in (None, answer[2]):
            return f"memory of {instance} saw something else before: digest {answer[2]}, not {memory.digest}"
        memory.digest = answer[2]
        return None

    def memory(self, instance: str) -> Memory:
        """With which its next call begins."""
        if self.anew:
            self.memories.pop(instance, None)
        return self.memories.setdefault(instance, Memory())

    def delete(self, instance: str) -> None:
        self.memories.pop(instance, None)

    def _step(self, memory: Memory, step: Step) -> Answer:
        if isinstance(step, str):
            return "nothing"
        (kind, args), *_ = step.items()
        match kind, args:
            case "put", [bucket, key, value]:
                self.buckets[str(bucket)][str(key)] = base64.b64decode(str(value))
            case "remove", [bucket, key]:
                self.buckets[str(bucket)].pop(str(key), None)
            case "get", [bucket, key]:
                return {"value": encoded(self.buckets[str(bucket)].get(str(key)))}
            case "add", [bucket, key, delta]:
                entries = self.buckets[str(bucket)]
                total = int(entries.get(str(key), b"0")) + int(str(delta))
                if not -(1 << 63) <= total < 1 << 63:
                    return {"refused": OVERFLOW}
                entries[str(key)] = b"%d" % total
                return {"number": total}
            case "swap", [bucket, key, value]:
                entries = self.buckets[str(bucket)]
                before = entries.get(str(key))
                entries[str(key)] = base64.b64decode(str(value))
                return {"value": encoded(before)}
            case "remember", number:
                memory.sum += int(str(number))
                return {"number": memory.sum}
        return "nothing"


def encoded(value: bytes | None) -> str | None:
    """As the host's JSON has a list of bytes."""
    return None if value is None else base64.b64encode(value).decode()

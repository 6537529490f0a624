"""The sequential model of clerks. Some of what they answer is chance, such as what the world outside gave; of that the
model learns the answer, and holds everything that follows against it. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from faults.clerk.outside import Meant, Outside
from faults.clerk.scenario import TOLD, WATCHED, Place
from faults.model import Answer, Memory, Model, Step, encoded


@dataclass(kw_only=True)
class ClerkModel(Model):
    """`completions`: what whoever waits for the promise at a place is told. `overdue`: whoever got a vacancy may have
    held it beyond its lease, so several may have filled one value."""

    outside: Outside
    buckets: dict[str, dict[str, bytes]] = field(
        default_factory=lambda: {name: {} for name in ("near", "far", "cache", WATCHED, TOLD)}
    )
    completions: dict[Place, Answer] = field(default_factory=dict)
    overdue: bool = False

    def check(self, instance: str, steps: Sequence[Step], answer: Answer) -> str | None:
        if not isinstance(answer, list) or len(answer) != len(steps):
            return f"the answer is {json.dumps(answer)}"
        memory = self.memory(instance)
        for step, found in zip(steps, answer, strict=True):
            expected = self._expected(instance, memory, step, found)
            if found != expected:
                return f"the answer to {json.dumps(step)} is {json.dumps(found)}, not {json.dumps(expected)}"
        memory.ended += 1
        memory.digest = None
        return None

    def trap(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, dict) and "fetch" in step:
                self.outside.tried(meant(step))

    def serve(self, instance: str, place: Place, delta: int) -> Answer:
        """The answer to an HTTP request that adds."""
        memory = self.memory(instance)
        total = self._step(memory, {"add": [*place, delta]})
        memory.sum += delta
        memory.ended += 1
        memory.digest = None
        assert isinstance(total, dict)
        return b"%d %d" % (total["number"], memory.sum)

    def learn(self, place: Place, found: Answer) -> Answer:
        """What must be there: chance the first time it is seen."""
        bucket, key = place
        value = found.get("value") if isinstance(found, dict) else None
        if value is not None:
            self.buckets[bucket].setdefault(key, base64.b64decode(str(value)))
        return {"value": encoded(self.buckets[bucket].get(key))}

    def _expected(self, instance: str, memory: Memory, step: Step, found: Answer) -> Answer:
        if isinstance(step, str):
            return "nothing"
        (kind, args), *_ = step.items()
        match kind, args:
            case "fetch", [_, _, bucket, key]:
                value = base64.b64decode(str(found["value"])) if isinstance(found, dict) and "value" in found else b""
                if not self.outside.served(instance, meant(step), value):
                    return {"value": [encoded(given) for given in self.outside.given.get(meant(step), [])]}
                if bucket:
                    self.buckets[str(bucket)][str(key)] = value
                return found
            case "promise", [bucket, key]:
                made = found.get("text") if isinstance(found, dict) else None
                known = self.buckets[str(bucket)].setdefault(str(key), str(made).encode())
                return {"text": known.decode()}
            case "await", [bucket, key]:
                return self.completions[str(bucket), str(key)]
            case "call", [callee, steps]:
                assert isinstance(steps, list)
                text = found.get("text") if isinstance(found, dict) else None
                wrong = self.check(str(callee), steps, json.loads(text)) if isinstance(text, str) else "no answer"
                return found if wrong is None else {"wrong": wrong}
            case "get-or-set", [key, value, _] if found == "filled" and self.overdue:
                self.buckets["cache"][str(key)] = base64.b64decode(str(value))
                return "filled"
        return self._step(memory, step)

    def _step(self, memory: Memory, step: Step) -> Answer:
        before = dict(self.buckets[WATCHED])
        answer = self._carried_out(memory, step)
        for key in before | self.buckets[WATCHED]:
            value = self.buckets[WATCHED].get(key)
            if value != before.get(key):
                change = b"-" if value is None else b"=" + value
                self.buckets[TOLD][key] = self.buckets[TOLD].get(key, b"") + change + b";"
        return answer

    def _carried_out(self, memory: Memory, step: Step) -> Answer:
        if isinstance(step, str):
            return "nothing"
        (kind, args), *_ = step.items()
        match kind, args:
            case "count", [bucket, key, delta]:
                return super()._step(memory, {"add": [bucket, key, delta]})
            case "compare-and-swap", [bucket, key, old, new]:
                entries = self.buckets[str(bucket)]
                swapped = entries.get(str(key)) == b"%d" % int(str(old))
                if swapped:
                    entries[str(key)] = b"%d" % int(str(new))
                return {"truth": swapped}
            case "exchange", [bucket, key, old, value]:
                entries = self.buckets[str(bucket)]
                swapped = encoded(entries.get(str(key))) == old
                if swapped:
                    entries[str(key)] = base64.b64decode(str(value))
                return {"truth": swapped}
            case "cache-get", key:
                return {"value": encoded(self.buckets["cache"].get(str(key)))}
            case "get-or-set", [key, value, _]:
                if str(key) in self.buckets["cache"]:
                    return {"value": encoded(self.buckets["cache"][str(key)])}
                self.buckets["cache"][str(key)] = base64.b64decode(str(value))
                return "filled"
            case "claim", key:
                return {"truth": str(key) not in self.buckets["cache"]}
            case "sleep", _:
                return {"truth": True}
        return super()._step(memory, step)


def meant(step: Step) -> Meant:
    """Of a `fetch`."""
    assert isinstance(step, dict)
    match step["fetch"]:
        case [path, body, *_]:
            pass
        case other:
            raise AssertionError(other)
    return str(path), base64.b64decode(str(body))

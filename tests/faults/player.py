"""Carries out a scenario against host processes of which some die or stand still on the way, and checks every answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from faults.asking import PATIENCE, Asker, Held, Reply, Send, Wrong, again, of_unknown_outcome
from faults.hosts import Host
from faults.model import Answer, Model, Step
from faults.scenario import (
    READER,
    Action,
    Call,
    Cancel,
    Control,
    Delete,
    Fails,
    Later,
    Look,
    Once,
    Poison,
    Scenario,
)

_AFTER_FAULTS = 3
"""Actions that follow when the last fault has come about and was overcome."""
_FORWARDED = {"Perdure-Forwarded": "test"}
_AFTER_THE_GATE = ("commit.after", "commit.sent", "replying")


@dataclass
class Player(Asker):
    """`names`: of instances in the scenario → those in the store. `settled`: whether all faults have come about."""

    names: dict[str, str]
    model: Model
    settled: Callable[[], bool] = field(default=lambda: False, kw_only=True)
    _answers: dict[str, Answer] = field(default_factory=dict, kw_only=True)

    async def play(self, scenario: Scenario) -> None:
        """Raises `Wrong`. What comes long after the last fault is left out."""
        remaining, more = -1, _AFTER_FAULTS
        actions = iter(scenario.actions)
        for action in actions:
            await self.carry_out(action)
            if self.settled() and not self.paused:
                more -= 1
                if more < 0:
                    break
            if self.paused and remaining < 0:
                remaining = 2
            remaining -= remaining >= 0
            if remaining == 0:
                await self._resume()
                remaining = -1
        await self._resume()
        await self.finish(list(actions))
        for instance in scenario.instances:
            if instance != READER:
                await self.carry_out(Look(instance))
                if self.model.anew:
                    await self._one_call(instance)

    async def finish(self, left_out: Sequence[Action]) -> None:
        """Bring to its end what has begun."""

    async def _one_call(self, instance: str) -> None:
        """The journal has no other than the last one."""
        found = await self.ask(f"the journal of {instance}", self._getting(instance, "/journal"))
        assert isinstance(found, dict)
        kinds = [entry["kind"] for entry in found["entries"]]
        if len(kinds) > 1:
            raise Wrong(f"the journal of {instance}, whose last call was a short one, has {kinds}")

    async def _resume(self, *, looks: bool = True) -> None:
        """Let paused hosts go on, whose instances others have by now, and check what they answer."""
        paused = await self._go_on()
        if looks:
            await self._look_at(paused)

    async def _go_on(self) -> list[Host]:
        """The hosts that stood still until now."""
        paused, held = self.paused, self.held
        self.held, self.paused = [], []
        for host in paused:
            host.resume()
        for one in held:
            try:
                status, answer = await asyncio.wait_for(one.task, PATIENCE)
            except (aiohttp.ClientError, OSError):
                continue
            if status == 200:
                self.check_late(one, answer)
        return paused

    async def _look_at(self, paused: Sequence[Host]) -> None:
        """What a former owner has in memory must be of no use to it."""
        for host in paused:
            for name in self.at_rest():
                if not host.ended.is_set():
                    status, answer = await self.until_answered(Look(name), self._sender(Look(name)), host)
                    if status == 200 and (wrong := self.model.look(name, answer)):
                        raise Wrong(f"asked of the host that was paused: {wrong}")

    def at_rest(self) -> list[str]:
        """Instances that nothing runs on now."""
        return [name for name in self.model.memories if name != READER]

    def check_late(self, held: Held, answer: Answer) -> None:
        """What a host said after it had been paused."""
        call = held.action
        if isinstance(call, Fails):
            raise Wrong(f"the paused host's late reply to {call}, which fails, is {json.dumps(answer)}")
        if not isinstance(call, Call):
            return
        if call.key is not None:
            self._same(call, answer, self._answers[call.key], "the paused host's late reply")
            return
        # It had proven its ownership and read before others wrote: an answer of the past, to a call of the past.
        fault = held.host.fault
        if fault is not None and fault.point.endswith(_AFTER_THE_GATE) and answer == held.expected:
            return
        self._same(call, answer, self.model.read(call.steps), "stale: the paused host's late reply")

    async def carry_out(self, action: Action) -> None:
        """One action, to its answer. Raises `Wrong`."""
        match action:
            case Call():
                self.check(action, action.instance, action.steps, await self.call(action))
            case Once():
                await self._once(action)
            case Fails():
                await self._fails(action)
            case Look(instance):
                if wrong := self.model.look(instance, await self.ask(action, self._sender(action))):
                    raise Wrong(wrong)
            case Later(instance, calls):
                for key, steps in calls:
                    await self.accept(action, instance, key, steps)
                for key, steps in calls:
                    self._answers[key] = await self.result(action, instance, key)
                    self.check(action, instance, steps, self._answers[key])
            case Poison(instance, key, steps):
                await self.accept(action, instance, key, steps)
                await self._until(action, self._getting(instance, ""), lambda found: found["state"] == "Quarantined")
                await self.ask(action, self._posting(instance, "skip"), (200, 400))
                self.model.trap(steps)
                found = await self._until(action, self._getting(instance, f"/invocations/{key}"), _finished)
                if found["state"] != "failed":
                    raise Wrong(f"the skipped call {key} has {found}")
            case Cancel(instance, key, steps):
                await self.accept(action, instance, key, steps, "2100-01-01T00:00:00Z")
                await self.ask(action, self._deleting(instance, f"/invocations/{key}"), (200, 404))
            case Control(instance, verbs):
                for verb in verbs:
                    # Where each call has a memory of its own, there is none to take a snapshot of.
                    wanted = 409 if self.model.anew and verb == "snapshot" else 200
                    await self.ask(action, self._posting(instance, verb), (wanted,))
                    # A paused host that goes on does what it was asked to, late as it is: an interruption, too.
                    await self._resume(looks=verb != "interrupt")
            case Delete(instance):
                # It makes keys be forgotten: a call that waits at a paused host would be another one afterwards.
                await self._resume()
                # 202: what it has elsewhere is deleted before its name is used again.
                await self.ask(action, self._deleting(instance, ""), (202, 204, 404))
                await self._resume(looks=False)
                self.model.delete(instance)

    async def call(self, call: Call) -> Answer:
        """Its answer, not checked."""
        expected = self.model.read(call.steps) if call.key is None else None
        answer = await self.ask(call, self._sender(call), expected=expected)
        if call.key is not None:
            self._answers[call.key] = answer
        return answer

    async def _once(self, call: Once) -> None:
        """Where it was answered it was carried out once, else once or not at all."""
        send = self._posting(call.instance, "functions/run", self.headers(call.instance), self.program(call.steps))
        looks, paused = Look(call.instance), list[Host]()
        while True:
            reply = await self.once(call, send)
            if (held := next((one for one in self.held if one.action is call), None)) is not None:
                # Another host has the instance, and has carried to its end what had begun, before this one goes on.
                await self.ask(looks, self._sender(looks))
                paused += await self._go_on()
                reply = await _late(held)
            if reply is None or not again(reply):
                break
        if reply is not None and reply[0] == 200:
            self.check(call, call.instance, call.steps, reply[1])
        else:
            if reply is not None and not of_unknown_outcome(reply):
                raise Wrong(f"{call} was refused: {reply}")
            # Whoever has its instance now has carried to its end what had begun.
            await self.ask(looks, self._sender(looks))
            if await self._counted(call) != self.model.counted(call.counter):
                self.model.run(call.instance, call.steps)
        found, expected = await self._counted(call), self.model.counted(call.counter)
        if found != expected:
            raise Wrong(f"after {call}, which was answered {reply}, its counter is {found!r}, not {expected!r}")
        await self._look_at(paused)

    async def _counted(self, call: Once) -> bytes:
        """What the store has of its counter; b"": nothing yet."""
        bucket, key = call.counter
        path = f"/v1/buckets/{bucket}/keys/{key}"
        found = await self.ask(
            f"the counter of {call}", lambda host: self.http("GET", host.url + path, _FORWARDED), (200, 404)
        )
        return found if isinstance(found, bytes) else b""

    async def _fails(self, call: Fails) -> None:
        """Whoever asks again is told of the failure that there was, and nothing is done again."""
        sends = self._sender(Call(call.instance, call.steps, call.key))
        first = await self.ask(call, sends, (500,))
        stored = await self.ask(call, sends, (500,))
        if not isinstance(first, dict) or not isinstance(stored, dict):
            raise Wrong(f"{call} was answered {first}, and {stored}")
        if (stored["code"], stored.get("cause")) != ("call-failed", "guest-trapped"):
            raise Wrong(f"{call} has failed, and was carried out again: {stored}")
        if first != stored and (first["code"], first.get("parts", 0) > 0) != ("guest-trapped", True):
            raise Wrong(f"{call} failed in another way at first: {first}")
        self.model.fail(call.writes)

    def check(self, action: object, instance: str, steps: Sequence[Step], answer: Answer) -> None:
        """The call was carried out now, and answered so."""
        if wrong := self.model.check(instance, steps, answer):
            raise Wrong(f"{action}: {wrong}")

    async def accept(
        self, action: Action, instance: str, key: str, steps: Sequence[Step], at: str | None = None
    ) -> None:
        """For later."""
        headers = {**self.headers(instance), "Idempotency-Key": key, "Prefer": "respond-async"}
        if at is not None:
            headers["Perdure-Schedule-At"] = at
        await self.ask(action, self._posting(instance, "functions/run", headers, self.program(steps)), (202,))

    async def result(self, action: Action, instance: str, key: str) -> Answer:
        """Of an accepted call, once it has one."""
        found = await self._until(action, self._getting(instance, f"/invocations/{key}"), _finished)
        if found["state"] != "succeeded":
            raise Wrong(f"the call {key} of {instance} ended so: {found}")
        return found["result"]

    def headers(self, instance: str) -> dict[str, str]:
        """Of every request about it: the host that is asked carries it out itself."""
        return dict(_FORWARDED)

    def program(self, steps: Sequence[Step]) -> bytes:
        """The arguments of `run`."""
        return json.dumps([steps]).encode()

    def _same(self, action: Action, answer: Answer, expected: Answer, what: str) -> None:
        if answer != expected:
            raise Wrong(f"{what} to {action} is {json.dumps(answer)}, not {json.dumps(expected)}")

    async def _until(self, action: Action, send: Send, done: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        limit, found = time.monotonic() + PATIENCE, None
        while time.monotonic() < limit:
            found = await self.ask(action, send, (200, 404))
            if isinstance(found, dict) and "state" in found and done(found):
                return found
            await asyncio.sleep(0.005)
        raise Wrong(f"{action} did not come to its end in {PATIENCE} s: {found}")

    def _sender(self, action: Call | Look) -> Send:
        if isinstance(action, Look):
            return self._posting(action.instance, "functions/memory", _FORWARDED, b"[]")
        headers = self.headers(action.instance)
        if action.key is not None:
            headers["Idempotency-Key"] = action.key
        return self._posting(action.instance, "functions/run", headers, self.program(action.steps))

    def _getting(self, instance: str, rest: str) -> Send:
        return lambda host: self.http("GET", f"{host.url}/v1/instances/{self.names[instance]}{rest}", _FORWARDED)

    def _posting(
        self, instance: str, rest: str, headers: dict[str, str] = _FORWARDED, body: bytes | None = None
    ) -> Send:
        path = f"/v1/instances/{self.names[instance]}/{rest}"
        return lambda host: self.http("POST", host.url + path, headers, body)

    def _deleting(self, instance: str, rest: str) -> Send:
        return lambda host: self.http("DELETE", f"{host.url}/v1/instances/{self.names[instance]}{rest}", _FORWARDED)


async def _late(held: Held) -> Reply | None:
    """What a host said that had stood still; None: it has died, or could not say it."""
    with suppress(aiohttp.ClientError, OSError):
        return await held.task
    return None


def _finished(found: dict[str, object]) -> bool:
    return found["state"] in ("succeeded", "failed")

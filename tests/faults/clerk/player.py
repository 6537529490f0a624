"""Carries out what is asked of clerks, and checks every answer."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field

from faults.asking import PATIENCE, Held, Send, Wrong
from faults.clerk.model import ClerkModel
from faults.clerk.scenario import LEASE, PEER, TOLD, Abandon, Begin, Complete, End, Place, Race, Serve, Told, Twice
from faults.model import Answer, Step
from faults.player import Player
from faults.scenario import READER, Action, Call


@dataclass
class ClerkPlayer(Player):
    """`PEER` is reached as callers reach an instance, through whichever host they ask. All else is carried out by the
    host that is asked."""

    model: ClerkModel
    _begun: dict[str, Begin] = field(default_factory=dict, kw_only=True)

    async def carry_out(self, action: Action) -> None:
        match action:
            case Race():
                await self._race(action)
            case Twice(call):
                answers = await asyncio.gather(self.call(call), self.call(call))
                self._same(action, answers[1], answers[0], "the second answer")
                self.check(action, call.instance, call.steps, answers[0])
            case Abandon(instance, key, missing):
                await self.ask(action, self._sender(Call(instance, [{"claim": missing}, "trap"], key)), (500,))
            case Serve(instance, key, (bucket, counter), delta):
                path = f"/http/{self.names[instance]}/add/{bucket}/{counter}/{delta}"
                answer = await self.ask(action, self._request("POST", path, {"Idempotency-Key": key}))
                if (expected := self.model.serve(instance, (bucket, counter), delta)) != answer:
                    raise Wrong(f"the answer to {action} is {answer!r}, not {expected!r}")
            case Begin(instance, key, steps):
                self._begun[key] = action
                await self.accept(action, instance, key, steps)
            case End(_, key):
                begun = self._begun[key]
                self._answers[key] = await self.result(action, begun.instance, key)
                del self._begun[key]
                self.check(action, begun.instance, begun.steps, self._answers[key])
            case Complete():
                await self._complete(action)
            case Told():
                await self._told(action)
            case _:
                await super().carry_out(action)

    async def finish(self, left_out: Sequence[Action]) -> None:
        for action in left_out:
            match action:
                case End(_, key) if key in self._begun:
                    await self.carry_out(action)
                case Complete(place) if any({"await": [*place]} in begun.steps for begun in self._begun.values()):
                    await self.carry_out(action)
        await self._told(Told())

    async def strays(self, deaths: int) -> None:
        """Raises `Wrong` where a request was sent again after its call had been answered. An instance that moved more
        often than hosts died was taken from a host that lived, whose request may come late."""
        for instance, request in self.model.outside.late.items():
            send = self._getting(instance, "")
            found = await self.ask(f"the epoch of {instance}", send)
            if isinstance(found, dict) and found["epoch"] <= 1 + deaths:
                raise Wrong(f"{request} came again after its call had been answered: {found}")

    def at_rest(self) -> list[str]:
        busy = {begun.instance for begun in self._begun.values()}
        return [name for name in super().at_rest() if name not in busy]

    def check_late(self, held: Held, answer: Answer) -> None:
        match held.action:
            case Twice(call):
                super().check_late(Held(held.host, held.task, call, None), answer)
            case _:
                super().check_late(held, answer)

    def headers(self, instance: str) -> dict[str, str]:
        return {} if instance == PEER else super().headers(instance)

    def program(self, steps: Sequence[Step]) -> bytes:
        return json.dumps([[self._step(step) for step in steps]]).encode()

    def _step(self, step: Step) -> Step:
        """With the names and addresses of this run."""
        match step:
            case {"fetch": [path, *rest]}:
                return {"fetch": [f"{self.model.outside.url}{path}", *rest]}
            case {"call": [str(instance), list(steps)]}:
                return {"call": [self.names[instance], self.program(steps).decode()]}
        return step

    async def _race(self, race: Race) -> None:
        begun = time.monotonic()
        calls = [Call(name, race.steps(value), key) for name, key, value in race.calls]
        answers = await asyncio.gather(*(self.call(call) for call in calls))
        filled = [
            value for (_, _, value), answer in zip(race.calls, answers, strict=True) if _first(answer) == "filled"
        ]
        self.model.overdue = time.monotonic() - begun > LEASE and len(filled) > 1
        # Whoever filled it comes first in the model, and the others were told what that one had filled.
        for call, answer in sorted(zip(calls, answers, strict=True), key=lambda pair: _first(pair[1]) != "filled"):
            self._one_of(race, _first(answer), filled)
            self.check(race, call.instance, call.steps, answer)
        if self.model.overdue:
            self._one_of(race, await self._read(race, {"cache-get": race.missing}), filled)
            self.model.overdue = False

    def _one_of(self, race: Race, told: object, filled: Sequence[str]) -> None:
        """Where several may have filled the cache, whose value it had when this was told is chance."""
        if self.model.overdue and isinstance(told, dict) and told.get("value") in filled:
            self.model.buckets["cache"][race.missing] = b64decode(str(told["value"]))

    async def _complete(self, action: Complete) -> None:
        promise = await self._promise(action, action.place)
        path = f"/v1/promises/{promise}"
        if action.why:
            end, body = f"{path}/failure", action.why.encode()
            self.model.completions[action.place] = {"refused": f"failed: {action.why}"}
            told: dict[str, object] = {"state": "failed", "failure": action.why}
        else:
            end, body = path, b64decode(action.value)
            self.model.completions[action.place] = {"value": action.value}
            told = {"state": "completed", "bytes": len(body)}
        await self.ask(action, self._request("POST", end, {}, body))
        # From now on it is completed, and with nothing else, whoever is asked.
        for send in (self._request("GET", path, {}), self._request("POST", end, {}, body)):
            found = await self.ask(action, send)
            if not isinstance(found, dict) or not told.items() <= found.items():
                raise Wrong(f"after {action} the promise is {found}, not {told}")
        await self.ask(action, self._request("POST", path, {}, b"something else"), (409,))

    async def _promise(self, action: Complete, place: Place) -> str:
        """Its id, once the guest's call has come so far."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            found = await self._read(action, {"get": [*place]})
            expected = self.model.learn(place, found)
            if found["value"] is not None:
                self._same(action, found, expected, "the promise's id")
                return b64decode(str(found["value"])).decode()
            await asyncio.sleep(0.005)
        raise Wrong(f"{action}: no promise was made in {PATIENCE} s")

    async def _read(self, action: Action, step: Step) -> dict[str, object]:
        """What a guest says that only looks."""
        answer = await self.ask(action, self._sender(Call(READER, [step])))
        assert isinstance(answer, list) and isinstance(answer[0], dict)
        return answer[0]

    async def _told(self, action: Told) -> None:
        """Of each key in order, nothing twice, and all of it in the end."""
        limit = time.monotonic() + PATIENCE
        for key, expected in self.model.buckets[TOLD].items():
            found = b""
            while found != expected:
                if time.monotonic() > limit:
                    raise Wrong(f"of {key} the watcher was told {found!r}, not {expected!r}, in {PATIENCE} s")
                value = (await self._read(action, {"get": [TOLD, key]}))["value"]
                found = b"" if value is None else b64decode(str(value))
                if not expected.startswith(found):
                    raise Wrong(f"of {key} the watcher was told {found!r}, not {expected!r}")
                await asyncio.sleep(0.005)

    def _request(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Send:
        return lambda host: self.http(method, host.url + path, headers, body)


def _first(answer: Answer) -> object:
    return answer[0] if isinstance(answer, list) and answer else None

"""Carries out a scenario against host processes of which some die or stand still on the way, and checks every answer.

The client is as ours are: it sends a key with each call that writes, and repeats what was not answered, at another
host where one is dead or does not answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from faults.hosts import Host, HostDied
from faults.model import Answer, Model
from faults.scenario import READER, Action, Call, Cancel, Control, Delete, Later, Look, Poison, Scenario

PATIENCE = 30.0
"""Seconds within which an action must be answered, whatever was injected."""
_RETRIED = ("overloaded", "provider-unavailable", "fenced", "host-leaving", "lost-writes")
_AFTER_FAULTS = 3
"""Actions that follow when the last fault has come about and was overcome."""
_FORWARDED = {"Perdure-Forwarded": "test"}
_AFTER_THE_GATE = ("commit.after", "commit.sent", "replying")
Reply = tuple[int, object]


class Wrong(Exception):
    """What a host answered differs from the model."""


@dataclass
class _Held:
    """A request that a paused host has not answered. `expected`: by the model at the time."""

    host: Host
    task: asyncio.Task[Reply]
    action: Action
    expected: Answer


@dataclass
class Player:
    """`hosts`: in the order in which they are asked; `spare` makes another one. `names`: of instances in the scenario →
    those in the store. `settled`: whether all faults have come about. `answered`: told of each answer."""

    session: aiohttp.ClientSession
    hosts: list[Host]
    names: dict[str, str]
    model: Model
    answered: Callable[[Host], None] = lambda host: None
    current: int = 0
    held: list[_Held] = field(default_factory=list)
    paused: list[Host] = field(default_factory=list)
    deaths: int = 0
    spare: Callable[[], Awaitable[Host]] | None = None
    restart: Callable[[], Awaitable[None]] | None = None
    settled: Callable[[], bool] = lambda: False
    _answers: dict[str, Answer] = field(default_factory=dict)
    _expected: Answer = None

    async def play(self, scenario: Scenario) -> None:
        """Raises `Wrong`. What comes long after the last fault is left out."""
        remaining, more = -1, _AFTER_FAULTS
        for action in scenario.actions:
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
        for instance in scenario.instances:
            if instance != READER:
                await self.carry_out(Look(instance))

    async def end(self) -> None:
        """Give up what is not answered yet."""
        for held in self.held:
            held.task.cancel()
        await asyncio.gather(*(held.task for held in self.held), return_exceptions=True)

    async def _resume(self, *, looks: bool = True) -> None:
        """Let paused hosts go on, whose instances others have by now, and check what they answer."""
        for host in self.paused:
            host.resume()
        for held in self.held:
            try:
                status, answer = await asyncio.wait_for(held.task, PATIENCE)
            except (aiohttp.ClientError, OSError):
                continue
            if status == 200 and isinstance(held.action, Call):
                self._check_late(held, held.action, answer)
        # What a former owner has in memory must be of no use to it.
        for host in self.paused if looks else ():
            for name in list(self.model.memories):
                if name != READER and not host.ended.is_set():
                    status, answer = await self._until_answered(Look(name), host)
                    if status == 200 and (wrong := self.model.look(name, answer)):
                        raise Wrong(f"asked of the host that was paused: {wrong}")
        self.held, self.paused = [], []

    def _check_late(self, held: _Held, call: Call, answer: Answer) -> None:
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
            case Call(instance, steps, key):
                expected = self._expected = self.model.run(instance, steps)
                if key is not None:
                    self._answers[key] = expected
                self._same(action, await self._ask(action), expected, "the answer")
            case Look(instance):
                if wrong := self.model.look(instance, await self._ask(action)):
                    raise Wrong(wrong)
            case Later(instance, calls):
                for key, steps in calls:
                    await self._ask(action, self._accepting(instance, key, steps), (202,))
                    self._answers[key] = self.model.run(instance, steps)
                for key, _ in calls:
                    answer = await self._result(action, instance, key)
                    self._same(action, answer, self._answers[key], f"the result of {key}")
            case Poison(instance, key, steps):
                await self._ask(action, self._accepting(instance, key, steps), (202,))
                await self._until(action, self._getting(instance, ""), lambda found: found["state"] == "Quarantined")
                await self._ask(action, self._posting(instance, "skip"), (200, 400))
                self.model.trap(steps)
                found = await self._until(action, self._getting(instance, f"/invocations/{key}"), _finished)
                if found["state"] != "failed":
                    raise Wrong(f"the skipped call {key} has {found}")
            case Cancel(instance, key, steps):
                await self._ask(action, self._accepting(instance, key, steps, "2100-01-01T00:00:00Z"), (202,))
                await self._ask(action, self._deleting(instance, f"/invocations/{key}"), (200, 404))
            case Control(instance, verbs):
                for verb in verbs:
                    await self._ask(action, self._posting(instance, verb), (200,))
                    # A paused host that goes on does what it was asked to, late as it is: an interruption, too.
                    await self._resume(looks=verb != "interrupt")
            case Delete(instance):
                # It makes keys be forgotten: a call that waits at a paused host would be another one afterwards.
                await self._resume()
                await self._ask(action, self._deleting(instance, ""), (204, 404))
                await self._resume(looks=False)
                self.model.delete(instance)

    def _same(self, action: Action, answer: Answer, expected: Answer, what: str) -> None:
        if answer != expected:
            raise Wrong(f"{what} to {action} is {json.dumps(answer)}, not {json.dumps(expected)}")

    async def _result(self, action: Action, instance: str, key: str) -> Answer:
        found = await self._until(action, self._getting(instance, f"/invocations/{key}"), _finished)
        if found["state"] != "succeeded":
            raise Wrong(f"the call {key} of {instance} ended so: {found}")
        return found["result"]

    async def _until(
        self, action: Action, send: Callable[[Host], Awaitable[Reply]], done: Callable[[dict[str, object]], bool]
    ) -> dict[str, object]:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            found = await self._ask(action, send, (200, 404))
            if isinstance(found, dict) and "state" in found and done(found):
                return found
            await asyncio.sleep(0.005)
        raise Wrong(f"{action} did not come to its end in {PATIENCE} s: {found}")

    async def _ask(
        self, action: Action, send: Callable[[Host], Awaitable[Reply]] | None = None, wanted: tuple[int, ...] = (200,)
    ) -> Answer:
        """Send until it is answered, at whichever host lives."""
        sender = send or self._sender(action)
        limit = time.monotonic() + PATIENCE
        reply: object = None
        while time.monotonic() < limit:
            host = self.hosts[self.current]
            try:
                await host.start()
                reply = await self._raced(host, action, sender)
            except (aiohttp.ClientError, OSError, HostDied):
                if host.ended.is_set() or await self._ends(host):
                    if host.fault is None:
                        raise Wrong(f"{host.name} died by itself: {host.words()[-1500:]}") from None
                    self.deaths += 1
                    await self._next(f"{action} killed {host.name}")
                elif host.stopped.is_set() and self._restarts(host):
                    await self._restart(host)
                elif host.stopped.is_set():
                    await self._pause(host)
                else:
                    await asyncio.sleep(0.02)
                continue
            if reply is None:
                await self._pause(host)
                continue
            status, body = reply  # type: ignore[misc]
            if status in wanted:
                self.answered(host)
                return body
            if status in (429, 503, 504) and isinstance(body, dict) and body.get("code") in (*_RETRIED, "timeout"):
                await asyncio.sleep(0.02)
                continue
            raise Wrong(f"{action} was refused: {status} {body}; host {host.name} says: {host.words()[-1500:]}")
        raise Wrong(f"{action} was not answered in {PATIENCE} s, last: {reply}")

    async def _until_answered(self, action: Action, host: Host) -> Reply:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            with suppress(aiohttp.ClientError, OSError):
                status, body = await self._sender(action)(host)
                if status == 200:
                    return status, body
            if host.ended.is_set():
                return 0, None
            await asyncio.sleep(0.02)
        raise Wrong(f"the host that was paused did not answer {action} any more")

    async def _raced(self, host: Host, action: Action, send: Callable[[Host], Awaitable[Reply]]) -> Reply | None:
        """None: the host was paused, and its answer is awaited later."""
        task = asyncio.ensure_future(send(host))
        while not task.done():
            pausing = asyncio.ensure_future(host.stopped.wait())
            await asyncio.wait({task, pausing}, return_when=asyncio.FIRST_COMPLETED)
            pausing.cancel()
            if task.done() or not self._restarts(host):
                break
            await self._restart(host)
        if task.done():
            return task.result()
        self.held.append(_Held(host, task, action, self._expected))
        return None

    def _restarts(self, host: Host) -> bool:
        return self.restart is not None and host.fault is not None and host.fault.how == "restart"

    async def _restart(self, host: Host) -> None:
        """While the host stands still its stores die and come back."""
        assert self.restart is not None
        await host.paused()
        await self.restart()
        host.resume()

    async def _pause(self, host: Host) -> None:
        await host.paused()
        self.paused.append(host)
        await self._next(f"{host.name} was paused")

    async def _ends(self, host: Host) -> bool:
        """A connection breaks a moment before the kernel says that the process is gone."""
        with suppress(TimeoutError):
            await asyncio.wait_for(host.ended.wait(), 0.2)
        return host.ended.is_set()

    async def _next(self, why: str) -> None:
        self.current += 1
        if self.current == len(self.hosts) and self.spare is not None:
            self.hosts.append(await self.spare())
        if self.current == len(self.hosts):
            raise Wrong(f"no host is left: {why}; it said: {self.hosts[-1].words()[-1500:]}")

    def _sender(self, action: Action) -> Callable[[Host], Awaitable[Reply]]:
        assert isinstance(action, (Call, Look))
        path = f"/v1/instances/{self.names[action.instance]}/functions/"
        headers = dict(_FORWARDED)
        if isinstance(action, Look):
            return lambda host: self._http("POST", host.url + path + "memory", headers, b"[]")
        if action.key is not None:
            headers["Idempotency-Key"] = action.key
        body = json.dumps([action.steps]).encode()
        return lambda host: self._http("POST", host.url + path + "run", headers, body)

    def _accepting(
        self, instance: str, key: str, steps: object, at: str | None = None
    ) -> Callable[[Host], Awaitable[Reply]]:
        headers = {**_FORWARDED, "Idempotency-Key": key, "Prefer": "respond-async"}
        if at is not None:
            headers["Perdure-Schedule-At"] = at
        path, body = f"/v1/instances/{self.names[instance]}/functions/run", json.dumps([steps]).encode()
        return lambda host: self._http("POST", host.url + path, headers, body)

    def _getting(self, instance: str, rest: str) -> Callable[[Host], Awaitable[Reply]]:
        return lambda host: self._http("GET", f"{host.url}/v1/instances/{self.names[instance]}{rest}", _FORWARDED)

    def _posting(self, instance: str, verb: str) -> Callable[[Host], Awaitable[Reply]]:
        return lambda host: self._http("POST", f"{host.url}/v1/instances/{self.names[instance]}/{verb}", _FORWARDED)

    def _deleting(self, instance: str, rest: str) -> Callable[[Host], Awaitable[Reply]]:
        return lambda host: self._http("DELETE", f"{host.url}/v1/instances/{self.names[instance]}{rest}", _FORWARDED)

    async def _http(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        async with self.session.request(method, url, headers=headers, data=body) as reply:
            data = await reply.read()
            return reply.status, json.loads(data) if data else None


def _finished(found: dict[str, object]) -> bool:
    return found["state"] in ("succeeded", "failed")

"""Sending to host processes of which some die or stand still on the way, until one has answered.

The client is as ours are: it repeats what was not answered, at another host where one is dead or does not answer.
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
from faults.model import Answer

PATIENCE = 30.0
"""Seconds within which an action must be answered, whatever was injected."""
_RETRIED = ("overloaded", "provider-unavailable", "fenced", "host-leaving", "lost-writes", "timeout")
_UNKNOWN = ("overtaken", "provider-unavailable", "timeout")
Reply = tuple[int, object]
Send = Callable[[Host], Awaitable[Reply]]


class Wrong(Exception):
    """What a host answered differs from the model."""


@dataclass
class Held:
    """A request that a paused host has not answered. `expected`: by the model at the time."""

    host: Host
    task: asyncio.Task[Reply]
    action: object
    expected: Answer


def again(reply: Reply) -> bool:
    """Whether it says that the same request may be sent again, though it has no key: that nothing of it was done."""
    status, body = reply
    retried = status in (429, 503, 504) and isinstance(body, dict) and body.get("code") in _RETRIED
    return retried and isinstance(body, dict) and body["retryable"] is True


def of_unknown_outcome(reply: Reply) -> bool:
    """Whether it says of a call without a key that it may have been carried out, and must not be sent again."""
    status, body = reply
    return status in (503, 504) and isinstance(body, dict) and body.get("code") in _UNKNOWN and not body["retryable"]


@dataclass
class Asker:
    """`hosts`: in the order in which they are asked; `spare` makes another one. `answered`: told of each answer. Several
    requests may be under way at once."""

    session: aiohttp.ClientSession
    hosts: list[Host]
    answered: Callable[[Host], None] = field(default=lambda host: None, kw_only=True)
    spare: Callable[[], Awaitable[Host]] | None = field(default=None, kw_only=True)
    restart: Callable[[], Awaitable[None]] | None = field(default=None, kw_only=True)
    current: int = field(default=0, kw_only=True)
    held: list[Held] = field(default_factory=list, kw_only=True)
    paused: list[Host] = field(default_factory=list, kw_only=True)
    deaths: int = field(default=0, kw_only=True)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, kw_only=True)

    async def ask(
        self, action: object, send: Send, wanted: tuple[int, ...] = (200,), expected: Answer = None
    ) -> Answer:
        """Send until it is answered, at whichever host lives. `action` is for messages."""
        limit = time.monotonic() + PATIENCE
        reply: Reply | None = None
        while time.monotonic() < limit:
            host = self.hosts[self.current]
            try:
                await host.start()
                reply = await self._raced(host, action, send, expected)
            except (aiohttp.ClientError, OSError, HostDied):
                await self._unanswered(host, action)
                continue
            if reply is None:
                await self._pause(host)
                continue
            status, body = reply
            if status in wanted:
                self.answered(host)
                return body
            if status in (429, 503, 504) and isinstance(body, dict) and body.get("code") in _RETRIED:
                await asyncio.sleep(0.02)
                continue
            raise Wrong(f"{action} was refused: {status} {body}; host {host.name} says: {host.words()[-1500:]}")
        raise Wrong(f"{action} was not answered in {PATIENCE} s, last: {reply}")

    async def once(self, action: object, send: Send) -> Reply | None:
        """Send, and not again once a host may have taken it: again only where none could be reached, or one said that
        it may be. None: it was not answered, or is `held` by a host that stands still."""
        limit = time.monotonic() + PATIENCE
        reply: Reply | None = None
        while time.monotonic() < limit:
            host = self.hosts[self.current]
            try:
                await host.start()
                reply = await self._raced(host, action, send, None)
            except (aiohttp.ClientConnectorError, HostDied):
                await self._unanswered(host, action)
                continue
            except (aiohttp.ClientError, OSError):
                await self._unanswered(host, action)
                return None
            if reply is None:
                await self._pause(host)
                return None
            if not again(reply):
                return reply
            await asyncio.sleep(0.02)
        raise Wrong(f"{action} was not carried out in {PATIENCE} s, last: {reply}")

    async def until_answered(self, action: object, send: Send, host: Host) -> Reply:
        """Ask one host, whatever it says meanwhile. (0, None): it is gone."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            with suppress(aiohttp.ClientError, OSError):
                status, body = await send(host)
                if status == 200:
                    return status, body
            if host.ended.is_set():
                return 0, None
            await asyncio.sleep(0.02)
        raise Wrong(f"the host that was paused did not answer {action} any more")

    async def http(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        """The answer's JSON, or its bytes where it is none."""
        async with self.session.request(method, url, headers=headers, data=body) as reply:
            data = await reply.read()
            return reply.status, (json.loads(data) if "json" in reply.content_type else data) if data else None

    async def end(self) -> None:
        """Give up what is not answered yet."""
        for held in self.held:
            held.task.cancel()
        await asyncio.gather(*(held.task for held in self.held), return_exceptions=True)

    async def _raced(self, host: Host, action: object, send: Send, expected: Answer) -> Reply | None:
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
        self.held.append(Held(host, task, action, expected))
        return None

    async def _unanswered(self, host: Host, action: object) -> None:
        if host.ended.is_set() or await self._ends(host):
            if host.fault is None:
                raise Wrong(f"{host.name} died by itself: {host.words()[-1500:]}")
            await self._next(host, f"{action} killed {host.name}")
        elif host.stopped.is_set() and self._restarts(host):
            await self._restart(host)
        elif host.stopped.is_set():
            await self._pause(host)
        else:
            await asyncio.sleep(0.02)

    def _restarts(self, host: Host) -> bool:
        return self.restart is not None and host.fault is not None and host.fault.how == "restart"

    async def _restart(self, host: Host) -> None:
        """While the host stands still its stores die and come back."""
        assert self.restart is not None
        async with self._turn:
            if host.stopped.is_set():
                await host.paused()
                await self.restart()
                host.resume()

    async def _pause(self, host: Host) -> None:
        await host.paused()
        if host not in self.paused:
            self.paused.append(host)
        await self._next(host, f"{host.name} was paused")

    async def _ends(self, host: Host) -> bool:
        """A connection breaks a moment before the kernel says that the process is gone."""
        with suppress(TimeoutError):
            await asyncio.wait_for(host.ended.wait(), 0.2)
        return host.ended.is_set()

    async def _next(self, host: Host, why: str) -> None:
        """Ask another one from now on, unless that has happened meanwhile."""
        async with self._turn:
            if self.hosts[self.current] is not host:
                return
            self.deaths += host.ended.is_set()
            self.current += 1
            if self.current == len(self.hosts) and self.spare is not None:
                self.hosts.append(await self.spare())
            if self.current == len(self.hosts):
                raise Wrong(f"no host is left: {why}; it said: {self.hosts[-1].words()[-1500:]}")

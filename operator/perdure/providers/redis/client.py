"""The client of one Worker's Redis: commands of one event-loop turn share a pipeline.

One command at a time costs a Python client five times as much as a pipeline's share. Callers wait on futures of
their own; a cancelled caller leaves its command in the pipeline and nobody else gets its reply, because replies are
matched by position within one pipeline that is always read to its end. Bounded: `_WAITING` commands queued or put off
(`Overloaded` beyond), `connections` pipelines in flight, `timeout` for what a moving server refuses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import hiredis

from perdure.errors import Overloaded, PerdureError, ProviderUnavailable, TooLarge
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.connection import Argument, pack
from perdure.providers.redis.failures import translate, word_of
from perdure.providers.redis.library import KEEPS, READS, function_library
from perdure.providers.redis.line import Line, pause
from perdure.providers.redis.replicas import Replicas
from perdure.providers.redis.routes import Route

_WAITING = 20_000
_PIPELINE = 256
_LOADS = 3
_FORGETFUL_AGAIN = 30.0
# Beyond its own bounds (proto-max-bulk-len, 2^20 arguments) the server closes the connection without a word.
_LARGEST = 512 << 20
_MOST_ARGUMENTS = 1 << 20


@dataclass(slots=True, eq=False)
class _Call:
    """`replicated`: not acknowledged before replicas hold it. `refusals`: how often a moving server refused it, since
    when (`until` is when that must end)."""

    data: bytes
    future: asyncio.Future[object]
    replicated: bool
    refusals: int = 0
    until: float = 0.0


class RedisClient:
    """`call` runs one of our functions, `command` any other command. `forgetful`: why nothing may be kept on this
    server, though it would take it; None: it may."""

    def __init__(self, config: RedisConfig, route: Route) -> None:
        self.replicas = Replicas(config)
        self.forgetful: str | None = None
        self._config = config
        self._route = route
        self._line = Line(config, route)
        self._queue: deque[_Call] = deque()
        self._put_off: dict[_Call, asyncio.TimerHandle] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False
        self._loading: asyncio.Task[None] | None = None
        self._version, self._library = function_library()

    @property
    def where(self) -> str:
        """The server, without credentials."""
        return self._route.where

    async def check_route(self) -> None:
        """Find out whether the present server is still the right one."""
        await self._route.check()

    async def call(self, function: str, keys: Sequence[bytes], *args: Argument) -> object:
        """Run `perdure_<function>`. Loads the library when the server does not have it.

        Raises `ProviderUnavailable` (outcome unknown), `Overloaded`, `TooLarge`.
        """
        if self.forgetful is not None and function in KEEPS:
            raise _untouched(ProviderUnavailable(self.forgetful, retry_after=_FORGETFUL_AGAIN, cause="unsuitable"))
        if len(keys) + len(args) + 3 > _MOST_ARGUMENTS:
            raise TooLarge(f"{len(args)} arguments are more than Redis takes at once ({_MOST_ARGUMENTS})")
        data = pack("FCALL", f"perdure_{function}_{self._version}", len(keys), *keys, *args)
        for _ in range(_LOADS):
            try:
                return await self._send(data, replicated=function not in READS)
            except _FunctionMissing:
                await self.load_library()
        raise ProviderUnavailable(f"Redis at {self.where} forgets Perdure's functions as soon as they are loaded")

    async def load_library(self) -> None:
        """Give the server our functions; another host may have done so."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="redis-load-functions")
        loading = self._loading
        try:
            await asyncio.shield(loading)
        finally:
            if loading.done() and self._loading is loading:
                self._loading = None

    async def _load(self) -> None:
        try:
            await self.command("FUNCTION", "LOAD", self._library)
        except PerdureError as error:
            if "already exists" not in error.detail:
                raise

    async def command(self, *args: Argument) -> object:
        """One command's reply. Raises as `call`."""
        return await self._send(pack(*args), replicated=False)

    async def _send(self, data: bytes, *, replicated: bool) -> object:
        if self._closed:
            raise ProviderUnavailable("the store is closed")
        if len(data) > _LARGEST:
            raise TooLarge(f"{len(data)} bytes are more than Redis takes at once ({_LARGEST})")
        if len(self._queue) + len(self._put_off) >= _WAITING:
            raise Overloaded(f"{_WAITING} commands wait for Redis at {self.where}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._queue.append(_Call(data, future, replicated and self.replicas.wanted))
        self._schedule(loop)
        return await future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled and len(self._flights) < self._config.connections:
            self._scheduled = True
            loop.call_soon(self._depart)

    def _depart(self) -> None:
        self._scheduled = False
        batch: list[_Call] = []
        while self._queue and len(batch) < _PIPELINE:
            call = self._queue.popleft()
            if not call.future.cancelled():
                batch.append(call)
        if batch:
            task = asyncio.get_running_loop().create_task(self._fly(batch), name="redis-pipeline")
            self._flights.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        if self._queue and not self._closed:
            self._schedule(asyncio.get_running_loop())

    async def _fly(self, batch: list[_Call]) -> None:
        try:
            replies = await self._exchange(batch)
        except (PerdureError, OSError, TimeoutError) as error:
            failure = error if isinstance(error, PerdureError) else translate(error, self.where)
            for call in batch:
                _fail(call, failure)
        except asyncio.CancelledError:
            for call in batch:
                _fail(call, ProviderUnavailable("the store was closed while a command was under way"))
            raise
        except Exception as error:
            # A defect: nobody waits for it in vain, and it is seen where this task ends.
            for call in batch:
                _fail(call, translate(error, self.where))
            raise
        else:
            for call, reply in zip(batch, replies, strict=True):
                self._settle(call, reply)

    async def _exchange(self, batch: list[_Call]) -> list[object]:
        """One reply a command, errors of single commands among them."""
        replicated = any(call.replicated for call in batch)
        commands = [call.data for call in batch]
        if replicated:
            commands += self.replicas.commands
        try:
            connection = await self._line.take()
        except (PerdureError, OSError, TimeoutError) as error:
            # Nothing was sent.
            raise _untouched(error if isinstance(error, PerdureError) else translate(error, self.where)) from error
        try:
            replies = await connection.exchange(commands)
            failure = await self.replicas.failure(replies[-1], connection) if replicated else None
        except (OSError, TimeoutError):
            self._line.broken()
            raise
        finally:
            self._line.give(connection)
        if failure is not None:
            for at, call in enumerate(batch):
                if call.replicated and not isinstance(replies[at], hiredis.ReplyError):
                    replies[at] = failure
        return replies[: len(batch)]

    def _settle(self, call: _Call, reply: object) -> None:
        if call.future.done():
            return
        if isinstance(reply, PerdureError):
            call.future.set_exception(reply)
        elif not isinstance(reply, hiredis.ReplyError):
            call.future.set_result(reply)
        elif "Function not found" in str(reply):
            call.future.set_exception(_FunctionMissing("the server does not have Perdure's functions"))
        elif self._closed or not self._again(call, reply):
            # A server that cannot run a function says so before it has begun.
            call.future.set_exception(_untouched(translate(reply, self.where)))

    def _again(self, call: _Call, refusal: hiredis.ReplyError) -> bool:
        """Put off what a server refused because it moves, for as long as a command may take."""
        if not self._route.redirect(word_of(refusal), str(refusal)):
            return False
        loop = asyncio.get_running_loop()
        if call.refusals == 0:
            call.until = loop.time() + self._config.timeout
        elif loop.time() >= call.until:
            return False
        call.refusals += 1
        self._put_off[call] = loop.call_later(pause(call.refusals - 1), self._resume, call)
        return True

    def _resume(self, call: _Call) -> None:
        del self._put_off[call]
        self._queue.append(call)
        self._schedule(asyncio.get_running_loop())

    async def close(self) -> None:
        """Let what is under way finish, then disconnect. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._flights:
            await asyncio.wait(self._flights, timeout=self._config.timeout)
        for task in list(self._flights):
            task.cancel()
        if self._flights:
            await asyncio.wait(self._flights)
        for handle in self._put_off.values():
            handle.cancel()
        for call in [*self._queue, *self._put_off]:
            _fail(call, ProviderUnavailable("the store is closed"))
        await self._line.close()


def _untouched(error: PerdureError) -> PerdureError:
    """For whoever must not do anything twice: it was not done now."""
    if isinstance(error, ProviderUnavailable):
        error.untouched = True
    return error


def _fail(call: _Call, error: PerdureError) -> None:
    if not call.future.done():
        call.future.set_exception(error)


class _FunctionMissing(PerdureError):
    """The library has to be loaded first."""

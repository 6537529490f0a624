"""Calls from one instance to another of the same Worker, exactly once.

Each call is a gate, and its idempotency key names that gate: the caller's life and the sequence of the commit. A caller
that dies goes on from the gate, makes the same call under the same key, and finds the result that is stored there.
Calls carry digests of those who wait for them, so that a circle is seen before anybody waits in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random

from perdure.component.traps import HostTrap
from perdure.durable.caller import Caller, InstanceCall
from perdure.durable.gates import Gates
from perdure.durable.recorder import JournalRecorder
from perdure.durable.writer import InstanceWriter
from perdure.errors import AsyncCallFailed, BadRequest, NoSuchFunction, PerdureError
from perdure.wasi.recorder import Plain

MAX_CHAIN = 16
_FIRST, _LONGEST = 0.05, 2.0


def digest_of(instance: str) -> str:
    """What stands for an instance in a chain of callers."""
    return hashlib.blake2b(instance.encode(), digest_size=8).hexdigest()


class InstanceCalls:
    """Those that one instance makes. `caller` None: there is nobody to make them."""

    def __init__(
        self, instance: str, caller: Caller | None, recorder: JournalRecorder, gates: Gates, writer: InstanceWriter
    ) -> None:
        self._instance = instance
        self._caller = caller
        self._recorder = recorder
        self._gates = gates
        self._writer = writer

    async def call(self, instance: str, function: str, arguments: str) -> tuple[str | None, str]:
        """(None, the result) or (the error's case, its words); of `failed`, `code: words`."""
        await self._gates.before_wait()

        async def make() -> Plain:
            return list(await self._made(instance, function, arguments))

        found = await self._recorder.record_async("calls.call", (instance, function, arguments), make)
        assert isinstance(found, list)
        case, text = found
        assert isinstance(text, str)
        return (None if case is None else str(case)), text

    async def _made(self, instance: str, function: str, arguments: str) -> tuple[str | None, str]:
        running = self._gates.running
        if running is None or self._caller is None:
            raise HostTrap("a call of another instance can be made in an invocation by a host only")
        callers = (*running.callers, digest_of(self._instance))
        if digest_of(instance) in callers:
            who = "itself" if instance == self._instance else f"{instance!r}, which waits for this very call"
            return "refused", f"instance {self._instance!r} calls {who}: neither would ever go on"
        if len(callers) > MAX_CHAIN:
            return "refused", f"{MAX_CHAIN} instances wait for each other already"
        identity = f"{self._writer.origin}\0{self._writer.sequence}".encode()
        key = "call-" + hashlib.blake2b(identity, digest_size=24).hexdigest()
        call = InstanceCall(instance, function, arguments.encode(), key, callers, running.deadline)
        delay = _FIRST
        while True:
            try:
                return None, (await self._caller.call(call)).decode()
            except NoSuchFunction as error:
                return "no-such-function", error.detail
            except BadRequest as error:
                return "bad-arguments", error.detail
            except PerdureError as error:
                if not error.retryable:
                    # Asked again it is told in the same words.
                    code = error.cause if isinstance(error, AsyncCallFailed) else error.code
                    return "failed", f"{code}: {error.detail}"
            # Whether it was carried out may be unknown: under its key it is carried out once. The present call's own
            # time ends this.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay = min(delay * 2, _LONGEST)

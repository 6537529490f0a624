"""What guests do outside of stores, wrong on purpose: each leaves out one rule, in one host process of a test."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Callable

from perdure.durable import faultpoint, recovery
from perdure.durable.caller import InstanceCall
from perdure.durable.promises import PENDING, Completion, complete, look
from perdure.durable.store import BucketStore
from perdure.durable.vacancies import InstanceCache
from perdure.durable.watching import PREFIX, Delivery
from perdure.host.calling import InstanceCaller
from perdure.host.http import promises as routes
from perdure.keyvalue.bucket import Claim
from perdure.wasi.http.exchanges import Exchange, Exchanges
from perdure.wasi.state import WasiState
from support.patching import put

BETWEEN = "mutant.between"
_LATER = 0.05


def _answer_not_journalled() -> None:
    """Whoever replays a call asks the world again."""

    async def observe(self: Exchange, state: WasiState) -> None:
        if self.settled:
            return
        if self.task is None:
            assert self._exchanges._client is not None
            self.start(self._exchanges._client, self._exchanges._key(self.ordinal))
        await self.wait()
        assert self.task is not None
        self.settle(await self.task)

    Exchange.observe = observe  # type: ignore[method-assign]


def _request_under_a_new_key() -> None:
    Exchanges._key = lambda self, ordinal: secrets.token_hex(16)  # type: ignore[method-assign]


def _call_under_a_new_key() -> None:
    whole = InstanceCaller.call

    async def renamed(self: InstanceCaller, call: InstanceCall) -> bytes:
        return await whole(self, dataclasses.replace(call, key=secrets.token_hex(16)))

    InstanceCaller.call = renamed  # type: ignore[method-assign]


def _completion_after_the_reply() -> None:
    """The host that was asked knows of it at once; others from a moment later on."""
    under_way: set[asyncio.Task[Completion]] = set()

    async def completed(store: BucketStore, promise: str, completion: bytes, retention_ms: int) -> Completion:
        async def later() -> Completion:
            await asyncio.sleep(_LATER)
            faultpoint.reach(BETWEEN)
            return await complete(store, promise, completion, retention_ms)

        if await shown(store, promise) != PENDING:
            return await complete(store, promise, completion, retention_ms)
        under_way.add(asyncio.create_task(later()))
        return Completion.DONE

    async def shown(store: BucketStore, promise: str) -> bytes | None:
        await asyncio.gather(*under_way)
        return await look(store, promise)

    put(routes, complete=completed, look=shown)


def _vacancy_for_everybody() -> None:
    async def looked(self: InstanceCache, key: str) -> bytes | Claim | None:
        (value,) = await self.bucket.get_many([key])
        return Claim(b"mutant") if value is None else value

    InstanceCache.look = looked  # type: ignore[method-assign]


def _outcome_forgotten() -> None:
    """An atomic operation that was the last before a crash is carried out again."""

    async def forgets(*args: object) -> None:
        return None

    put(recovery, _gate_outcome=forgets)


def _change_under_a_new_key() -> None:
    """Whoever goes on telling of a feed sends again what was sent."""
    life = secrets.token_hex(16)
    Delivery._key = lambda self, number: f"{PREFIX}{life}.{number}"  # type: ignore[method-assign]


CLERK_MUTANTS: dict[str, Callable[[], None]] = {
    "answer-not-journalled": _answer_not_journalled,
    "request-under-a-new-key": _request_under_a_new_key,
    "call-under-a-new-key": _call_under_a_new_key,
    "completion-after-the-reply": _completion_after_the_reply,
    "vacancy-for-everybody": _vacancy_for_everybody,
    "outcome-forgotten": _outcome_forgotten,
    "change-under-a-new-key": _change_under_a_new_key,
}

"""How often a call that had not ended was gone on with, in vain, since something of it became durable.

Whoever opens the instance replays such a call and runs it to its end. One that takes its host with it would take one
host after another: so each attempt is counted in the store before anything of the guest runs, and forgotten when it
ends with its host alive: the call ended, it waits for something, the store is away, another host has the instance.
One that ends by a defect of the host counts as well: nothing says that it passes. Attempts beyond
`spec.retry.maxAttempts` quarantine the instance instead.

The counter is an entry of a private bucket of the instance, at the home store, under the sequence that the attempt
begins at: a call that gets further is counted anew. It costs two round trips, where there is such a call. Beside it is
the one attempt that `resume` gives to an asynchronous call which has none left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perdure.durable.effects import BucketAddress, Counted, Increment, Put, Remove, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.foreign import apply_unrecorded
from perdure.durable.halting import quarantine
from perdure.durable.policy import ATTEMPTS
from perdure.durable.records import Claim
from perdure.durable.recovery import decode_entries
from perdure.durable.replay import plan_replay
from perdure.errors import InternalError, PerdureError, Quarantined

_KEPT_MS = 7 * 24 * 3600 * 1000
_RESUMED = "resumed"
_PATIENCE = 2.0
"""Seconds that forgetting may take: a host that is ending must not wait for it."""


@asynccontextmanager
async def attempt(name: str, claim: Claim, environment: EngineEnvironment) -> AsyncIterator[None]:
    """Around recovery and what goes on after it. Raises `Quarantined` (too many), `ProviderUnavailable`, `Fenced`."""
    if not claim.data.open:
        yield
        return
    (counted,) = await apply_unrecorded(environment.home, Increment(_address(name), _key(claim), 1, _KEPT_MS))
    if isinstance(counted, Counted) and counted.value > environment.retry.max_attempts:
        await _quarantine(name, claim, environment, counted.value - 1)
    try:
        yield
    except asyncio.CancelledError:
        await _forget_soon(name, claim, environment)
        raise
    except Exception as error:
        found = defect_of(error)
        if found is None:
            # This host is there to say so.
            await _forget_soon(name, claim, environment)
        elif isinstance(counted, Counted) and counted.value >= environment.retry.max_attempts:
            await _quarantine(name, claim, environment, counted.value, found)
        raise
    await _forget_soon(name, claim, environment)


def defect_of(error: Exception) -> InternalError | None:
    """A defect of the host as an error of ours, its cause beside it; None: it is another one's fault."""
    if isinstance(error, InternalError):
        return error
    if isinstance(error, PerdureError):
        return None
    # What an unforeseen error says may be anything.
    found = InternalError(f"a defect of the host ({type(error).__name__}), whose log has the trace")
    found.__cause__ = error
    return found


async def forget(name: str, claim: Claim, environment: EngineEnvironment) -> None:
    """The call may be tried as often as if it never had been. Raises `ProviderUnavailable`."""
    if claim.data.open:
        await apply_unrecorded(environment.home, Remove(_address(name), _key(claim)))


async def allow(name: str, key: str, environment: EngineEnvironment) -> None:
    """One attempt more for the pending call `key`. Raises `ProviderUnavailable`."""
    await apply_unrecorded(environment.home, Put(_address(name), _RESUMED, key.encode(), _KEPT_MS))


async def allowed(name: str, key: str, environment: EngineEnvironment) -> bool:
    """Whether the pending call `key` has one, which it has no more from now on. Raises `ProviderUnavailable`."""
    (found,) = await environment.home.get_many(_address(name), [_RESUMED])
    if found != key.encode():
        return False
    await apply_unrecorded(environment.home, Remove(_address(name), _RESUMED))
    return True


async def _forget_soon(name: str, claim: Claim, environment: EngineEnvironment) -> None:
    """Or not: then this attempt counts."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await forget(name, claim, environment)
    except (PerdureError, TimeoutError) as error:
        environment.log(name, "perdure", f"an attempt that ended well counts: {error}".encode())


async def _quarantine(
    name: str, claim: Claim, environment: EngineEnvironment, attempts: int, defect: InternalError | None = None
) -> None:
    # Its first entry has the name of it: an instance is open where the journal ends with parts.
    first = plan_replay(decode_entries(claim.data)).unfinished[0]
    what = f"the call {first.key!r}" if first.key is not None else f"a call of {first.function} without a key"
    how = "ended with their host" if defect is None else f"failed, last so: {defect.code}: {defect.detail}"
    reason = (
        f"{what} has not ended, and {attempts} attempts to go on with it {how}. "
        "Resume the instance to try again, or skip the call"
    )
    await quarantine(name, claim.token, environment, reason, first.key)
    raise Quarantined(f"instance {name!r} is quarantined: {reason}") from defect


def _address(name: str) -> BucketAddress:
    return BucketAddress(Scope.INSTANCE, ATTEMPTS, name)


def _key(claim: Claim) -> str:
    return str(claim.data.sequence)

"""Running an instance's inbox: each call taken durably, run to its commit, or put back for another attempt.

An attempt is counted before it runs, so that a call that kills its host is out of attempts some day, and so is one that
meets a defect of it. A call out of attempts quarantines its instance; the call stays in the inbox until somebody
resumes or skips it.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.durable.abandoning import ENDS_THE_CALL
from perdure.durable.attempts import allowed, defect_of
from perdure.durable.calls import FailedAttempt, decode_call, decode_failure, encode
from perdure.durable.claiming import claim_instance
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.halting import quarantine
from perdure.durable.inbox import PendingCall
from perdure.durable.instance import DurableInstance
from perdure.durable.records import OwnerToken
from perdure.durable.settings import Failure
from perdure.durable.writer import KeyUsed, Running
from perdure.errors import (
    FeedFull,
    Fenced,
    GuestTrapped,
    InternalError,
    InvocationCancelled,
    InvocationTimeout,
    PerdureError,
    Quarantined,
)


@dataclass(frozen=True, slots=True)
class Ran:
    """`ran`: a call was taken. `next_ms`: when the next one is due (wall clock), None: none waits."""

    ran: bool
    next_ms: int | None


async def run_next(instance: DurableInstance, environment: EngineEnvironment, deadline: float) -> Ran:
    """Take the pending call that is due first and run it. After a failed attempt, and when it
    belongs to another host now, the instance is not usable.

    Raises `Fenced`, `ProviderUnavailable`, `Quarantined` (the call is out of attempts).
    """
    try:
        taken = await environment.home.take(instance.name, instance.token)
    except Fenced:
        instance.close()
        raise
    reach(Point.TAKEN)
    at = _At(instance.name, instance.token)
    call = taken.call
    if call is None:
        return Ran(ran=False, next_ms=taken.next_ms)
    over = call.attempts > environment.retry.max_attempts and not _waited(call)
    if over and not await allowed(instance.name, call.key, environment):
        # Its last attempt took its host with it.
        instance.close()
        await _quarantine(at, environment, call, "the host ended during its last attempt")
    try:
        payload = decode_call(call.payload)
        await instance.run(Running(payload.function, payload.arguments, call.key, deadline, pending=True))
    except InvocationCancelled:
        environment.hooks.attempt("cancelled")
    except KeyUsed:
        # A call of this key without the inbox was quicker, and took it out.
        environment.hooks.attempt("succeeded")
    except FeedFull as error:
        # That is no fault of the call's: it waits until a bucket takes changes again.
        instance.close()
        await _postpone(at, environment, call, error)
    except ENDS_THE_CALL as error:
        instance.close()
        await _failed(at, environment, call, error)
    except Exception as error:
        if (found := defect_of(error)) is not None:
            instance.close()
            await _failed(at, environment, call, found)
        raise
    else:
        environment.hooks.attempt("succeeded")
    return Ran(ran=True, next_ms=None)


async def opening_failed(name: str, environment: EngineEnvironment, error: Exception) -> None:
    """The instance could not be opened to run its inbox. If that is by a defect of the host, it is an attempt of the
    call that is due, so that somebody learns of it some day. Where a call goes on, `attempts` has counted.

    Raises as `run_next`.
    """
    found = defect_of(error)
    if found is None:
        return
    claim = await claim_instance(name, environment)
    if claim.data.open or claim.data.halt is not None:
        return
    taken = await environment.home.take(name, claim.token)
    if taken.call is not None:
        await _failed(_At(name, claim.token), environment, taken.call, found)


@dataclass(frozen=True, slots=True)
class _At:
    """An instance by its name, and what proves that it is this host's."""

    name: str
    token: OwnerToken


async def _failed(at: _At, environment: EngineEnvironment, call: PendingCall, error: PerdureError) -> None:
    if not _again(environment, call, error):
        await _quarantine(at, environment, call, f"{error.code}: {error.detail}", error)
    await _postpone(at, environment, call, error)


def _again(environment: EngineEnvironment, call: PendingCall, error: PerdureError) -> bool:
    retry = environment.retry
    if isinstance(error, InternalError):
        return call.attempts < retry.max_attempts
    return retry.again(call.attempts, _kind(error))


def _waited(call: PendingCall) -> bool:
    """Whether its last attempt ended at a feed that was full."""
    failure = decode_failure(call.failure)
    return failure is not None and failure.code == FeedFull.code


async def _postpone(at: _At, environment: EngineEnvironment, call: PendingCall, error: PerdureError) -> None:
    failure = encode(FailedAttempt(error.code, error.detail, environment.wall_ms))
    delay = environment.retry.delay_ms(call.attempts)
    await environment.home.postpone(at.name, at.token, call.key, delay, failure)
    reach(Point.POSTPONED)
    environment.hooks.attempt("retried")


async def _quarantine(
    at: _At, environment: EngineEnvironment, call: PendingCall, why: str, error: PerdureError | None = None
) -> None:
    """Raises `Quarantined`."""
    reason = (
        f"the asynchronous call {call.key!r} failed in {call.attempts} attempts, last so: {why}. "
        "Resume the instance to try again, or skip the call"
    )
    await quarantine(at.name, at.token, environment, reason, call.key)
    environment.hooks.attempt("quarantined")
    raise Quarantined(f"instance {at.name!r} is quarantined: {reason}") from error


def _kind(error: PerdureError) -> Failure:
    if isinstance(error, GuestTrapped):
        return Failure.TRAP
    return Failure.TIMEOUT if isinstance(error, InvocationTimeout) else Failure.INVALID

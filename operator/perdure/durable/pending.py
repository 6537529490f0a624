"""Running an instance's inbox: each call taken durably, run to its commit, or put back for another attempt.

An attempt is counted before it runs, so that a call that kills its host is out of attempts some day. A call out of
attempts quarantines its instance; the call stays in the inbox until somebody resumes or skips it.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.durable.abandoning import ENDS_THE_CALL
from perdure.durable.attempts import allowed
from perdure.durable.calls import FailedAttempt, Halt, HaltState, decode_call, decode_failure, encode
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.inbox import PendingCall
from perdure.durable.instance import DurableInstance
from perdure.durable.settings import Failure
from perdure.durable.writer import KeyUsed, Running
from perdure.errors import (
    FeedFull,
    Fenced,
    GuestTrapped,
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
    call = taken.call
    if call is None:
        return Ran(ran=False, next_ms=taken.next_ms)
    over = call.attempts > environment.retry.max_attempts and not _waited(call)
    if over and not await allowed(instance.name, call.key, environment):
        # Its last attempt took its host with it.
        await _quarantine(instance, environment, call, "the host ended during its last attempt")
    payload = decode_call(call.payload)
    try:
        await instance.run(Running(payload.function, payload.arguments, call.key, deadline, pending=True))
    except InvocationCancelled:
        environment.hooks.attempt("cancelled")
    except KeyUsed:
        # A call of this key without the inbox was quicker, and took it out.
        environment.hooks.attempt("succeeded")
    except FeedFull as error:
        # That is no fault of the call's: it waits until a bucket takes changes again.
        instance.close()
        await _postpone(instance, environment, call, error)
    except ENDS_THE_CALL as error:
        instance.close()
        await _failed(instance, environment, call, error)
    else:
        environment.hooks.attempt("succeeded")
    return Ran(ran=True, next_ms=None)


async def _failed(
    instance: DurableInstance, environment: EngineEnvironment, call: PendingCall, error: PerdureError
) -> None:
    if not environment.retry.again(call.attempts, _kind(error)):
        await _quarantine(instance, environment, call, f"{error.code}: {error.detail}")
    await _postpone(instance, environment, call, error)


def _waited(call: PendingCall) -> bool:
    """Whether its last attempt ended at a feed that was full."""
    failure = decode_failure(call.failure)
    return failure is not None and failure.code == FeedFull.code


async def _postpone(
    instance: DurableInstance, environment: EngineEnvironment, call: PendingCall, error: PerdureError
) -> None:
    failure = encode(FailedAttempt(error.code, error.detail, environment.wall_ms))
    delay = environment.retry.delay_ms(call.attempts)
    await environment.home.postpone(instance.name, instance.token, call.key, delay, failure)
    reach(Point.POSTPONED)
    environment.hooks.attempt("retried")


async def _quarantine(instance: DurableInstance, environment: EngineEnvironment, call: PendingCall, why: str) -> None:
    """Raises `Quarantined`."""
    reason = (
        f"the asynchronous call {call.key!r} failed in {call.attempts} attempts, last so: {why}. "
        "Resume the instance to try again, or skip the call"
    )
    halt = Halt(HaltState.QUARANTINED, reason, environment.wall_ms, call.key)
    instance.close()
    await environment.home.halt(instance.name, instance.token, encode(halt))
    reach(Point.HALTED)
    environment.hooks.attempt("quarantined")
    raise Quarantined(f"instance {instance.name!r} is quarantined: {reason}")


def _kind(error: PerdureError) -> Failure:
    if isinstance(error, GuestTrapped):
        return Failure.TRAP
    return Failure.TIMEOUT if isinstance(error, InvocationTimeout) else Failure.INVALID

"""What an operator may do with an instance: interrupt, resume, skip, reset. Each claims it, so that a host that runs it
now can commit nothing more, and each leaves a consistent instance wherever it is cut short.
"""

from __future__ import annotations

import asyncio
import enum

from perdure.durable.abandoning import failure, given_up, skipped, unfinished
from perdure.durable.attempts import allow, forget
from perdure.durable.calls import Halt, HaltState, decode_call, decode_halt, encode
from perdure.durable.claiming import claim_instance
from perdure.durable.components import ComponentLibrary
from perdure.durable.departing import clear_before
from perdure.durable.environment import EngineEnvironment
from perdure.durable.journal import Kind
from perdure.durable.records import Claim
from perdure.durable.recovery import decode_entries, settle_foreign
from perdure.durable.replay import component_of
from perdure.durable.writer import COMMIT_GRACE, InstanceWriter, Running
from perdure.errors import BadRequest, NoSuchInstance, Quarantined


class Verb(enum.StrEnum):
    """INTERRUPT: stop it, and take no more calls. RESUME: take them again. SKIP: give up the call that quarantined it,
    or the one that has not ended. RESET: fresh memory; buckets, results and inbox stay. SNAPSHOT: take one now."""

    INTERRUPT = "interrupt"
    RESUME = "resume"
    SKIP = "skip"
    RESET = "reset"
    SNAPSHOT = "snapshot"


async def control(
    name: str, verb: Verb, library: ComponentLibrary, environment: EngineEnvironment, *, runs: bool = False
) -> None:
    """Carry out any verb but SNAPSHOT, which needs the instance's memory. `runs`: a call does, so that there is an
    instance though the store may know of none yet.

    Raises `NoSuchInstance`, `BadRequest` (there is nothing to skip), `ProviderUnavailable`, `Fenced`.
    """
    if not runs and await environment.home.instance(name) is None:
        raise NoSuchInstance(f"there is no instance {name!r}: its first invocation creates it")
    claim = await claim_instance(name, environment)
    match verb:
        case Verb.INTERRUPT:
            halt = Halt(HaltState.INTERRUPTED, "on request", environment.wall_ms)
            await environment.home.halt(name, claim.token, encode(halt))
        case Verb.RESUME:
            await _give_attempts(name, claim, environment)
            await environment.home.halt(name, claim.token, None)
        case Verb.SKIP:
            await clear_before(name, claim, environment)
            await _skip(name, claim, library, environment)
        case Verb.RESET:
            await clear_before(name, claim, environment)
            await _reset(name, claim, library, environment)
        case Verb.SNAPSHOT:
            raise BadRequest("a snapshot is taken from memory")


async def _give_attempts(name: str, claim: Claim, environment: EngineEnvironment) -> None:
    """What quarantined it is tried once more, though it is out of attempts."""
    await forget(name, claim, environment)
    key = None if claim.data.halt is None else decode_halt(claim.data.halt).key
    waiting = None if key is None else await environment.home.pending(name, key)
    if waiting is not None and waiting.attempts >= environment.retry.max_attempts:
        await allow(name, waiting.key, environment)


async def _skip(name: str, claim: Claim, library: ComponentLibrary, environment: EngineEnvironment) -> None:
    """End the call with a failure as its result. The sequence is burned: a late duplicate of the call finds it used."""
    halt = None if claim.data.halt is None else decode_halt(claim.data.halt)
    entries = decode_entries(claim.data)
    parts = unfinished(entries)
    key = parts[0].key if parts else None if halt is None else halt.key
    if not parts and key is None:
        raise BadRequest("no call of the instance waits to be skipped: reset it to give up its memory")
    writer = InstanceWriter(name, component_of(entries) or library.present.digest, environment, claim)
    await settle_foreign(entries, claim, writer, environment)
    waiting = None if key is None else await environment.home.pending(name, key)
    if waiting is None:
        result = skipped(parts, "skipped on request")
    else:
        why = "the call was given up on request" + (f" ({halt.reason})" if halt else "")
        result = failure(waiting.key, waiting.fingerprint, "skipped", why)
    function = decode_call(waiting.payload).function if waiting is not None else parts[0].function if parts else ""
    running = Running(function, b"", key, _deadline(), part=len(parts))
    await writer.abandon(running, "skipped on request", result=result)
    await environment.home.halt(name, claim.token, None)


async def _reset(name: str, claim: Claim, library: ComponentLibrary, environment: EngineEnvironment) -> None:
    """Begin anew on the present component. Effects for other stores that a damaged journal hides cannot be applied."""
    writer = InstanceWriter(name, library.present.digest, environment, claim)
    result = None
    try:
        entries = decode_entries(claim.data)
        await settle_foreign(entries, claim, writer, environment)
        result = await given_up(name, entries, "the instance was reset", environment)
    except Quarantined as error:
        if claim.data.unapplied:
            environment.log(name, "perdure", f"reset leaves effects of a damaged journal: {error.detail}".encode())
    await writer.begin_anew(Kind.FRESH, _deadline(), reason="reset on request", result=result)
    await environment.home.halt(name, claim.token, None)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + COMMIT_GRACE

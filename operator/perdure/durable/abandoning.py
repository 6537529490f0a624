"""Ending a call that will not go on, though something of it is durable."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.durable.calls import failed_result, sealed
from perdure.durable.environment import EngineEnvironment
from perdure.durable.journal import Entry, Kind, call_fingerprint
from perdure.durable.records import StoredResult
from perdure.durable.writer import InstanceWriter, Running
from perdure.errors import GuestTrapped, InvocationTimeout, NoSuchFunction, PerdureError, TypeMismatch

ENDS_THE_CALL = (GuestTrapped, InvocationTimeout, TypeMismatch, NoSuchFunction)
"""Errors after which a call will not go on: what it left in parts is abandoned."""


async def abandon(
    writer: InstanceWriter, running: Running, error: PerdureError, environment: EngineEnvironment
) -> None:
    """What earlier gates of the call made durable stays; memory is as before it. So the same call under its key is not
    carried out again: its failure is its result. Raises as `InstanceWriter.abandon`."""
    if not running.part:
        return
    result = await _result(writer, running, error, environment)
    await writer.abandon(running, f"{error.code}: {error.detail}", result=result)
    if isinstance(error, GuestTrapped):
        error.parts = running.part
    elif isinstance(error, InvocationTimeout):
        error.leaves(running.part)


async def _result(
    writer: InstanceWriter, running: Running, error: PerdureError, environment: EngineEnvironment
) -> StoredResult | None:
    """None: the call has no key, or is an asynchronous one, which is tried again as the manifest says."""
    if running.key is None or running.pending or not isinstance(error, ENDS_THE_CALL):
        return None
    if await environment.home.pending(writer.name, running.key) is not None:
        return None
    return failure(running.key, call_fingerprint(running.function, running.arguments), error.code, error.detail)


def failure(key: str, fingerprint: bytes, code: str, detail: str) -> StoredResult:
    """The result of a call that failed for good."""
    return StoredResult(key, fingerprint, sealed(failed_result(code, detail)))


def unfinished(entries: Sequence[Entry]) -> list[Entry]:
    """The parts of a call that has not ended, at the end of a journal."""
    group: list[Entry] = []
    for entry in entries:
        group = [*group, entry] if entry.kind is Kind.PART else []
    return group


async def given_up(
    name: str, entries: Sequence[Entry], why: str, environment: EngineEnvironment
) -> StoredResult | None:
    """The result of a call that has not ended, and will not, so that nobody carries it out again. None: there is none,
    it has no key, or it waits in the inbox."""
    result = skipped(unfinished(entries), why)
    if result is None or await environment.home.pending(name, result.key) is not None:
        return None
    return result


def skipped(parts: Sequence[Entry], why: str) -> StoredResult | None:
    """As `given_up`, of a call that is known not to wait. `parts`: those that `unfinished` gives."""
    if not parts or parts[0].key is None:
        return None
    fingerprint = call_fingerprint(parts[0].function, parts[0].arguments)
    return failure(parts[0].key, fingerprint, "skipped", f"the call was given up: {why}")

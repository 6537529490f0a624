"""Perdure's own interface `perdure:durable` (wit/perdure-durable) as host functions."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from perdure.component.host import HostFunction, HostResource
from perdure.component.types import Err, FuncType, Ok, Variant
from perdure.durable.calling import InstanceCalls
from perdure.durable.promises import FAILED, InstancePromises
from perdure.durable.records import WorkerId

_INTERFACE = re.compile(r"perdure:durable/([a-z-]+)@0\.1\.\d+")


@dataclass(slots=True)
class DurableState:
    """What the interface needs of one instance. `key`: the idempotency key of the call that runs or is replayed; the
    journal has it, so nothing here is recorded."""

    instance: str
    worker: WorkerId
    promises: InstancePromises
    calls: InstanceCalls
    key: str | None = None


class DurableContext(Protocol):
    """What host functions get as their first argument."""

    @property
    def durable(self) -> DurableState: ...


def instance(ctx: DurableContext) -> str:
    return ctx.durable.instance


def worker(ctx: DurableContext) -> str:
    return f"{ctx.durable.worker.namespace}/{ctx.durable.worker.name}"


def idempotency_key(ctx: DurableContext) -> str | None:
    return ctx.durable.key


def create(ctx: DurableContext) -> str | Awaitable[str]:
    return ctx.durable.promises.create()


async def wait(ctx: DurableContext, promise: str) -> Ok | Err:
    found = await ctx.durable.promises.wait(promise)
    if found is None:
        return Err(Variant("no-such-promise"))
    if found.startswith(FAILED):
        return Err(Variant("failed", found[1:].decode()))
    return Ok(found[1:])


async def call(ctx: DurableContext, instance: str, function: str, arguments: str) -> Ok | Err:
    case, text = await ctx.durable.calls.call(instance, function, arguments)
    if case is None:
        return Ok(text)
    if case != "failed":
        return Err(Variant(case, text))
    code, _, detail = text.partition(": ")
    return Err(Variant(case, {"code": code, "detail": detail}))


_FUNCTIONS: dict[tuple[str, str], HostFunction] = {
    ("context", "instance"): instance,
    ("context", "worker"): worker,
    ("context", "idempotency-key"): idempotency_key,
    ("promises", "create"): create,
    ("promises", "wait"): wait,
    ("calls", "call"): call,
}


class DurableResolver:
    """Implements `perdure.component.host.ImportResolver`."""

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        match = _INTERFACE.fullmatch(interface)
        return None if match is None else _FUNCTIONS.get((match.group(1), name))

    def resource(self, interface: str, name: str) -> HostResource | None:
        return None

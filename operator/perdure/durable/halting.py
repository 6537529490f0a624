"""Stopping an instance until somebody looks at it."""

from __future__ import annotations

from perdure.durable.calls import Halt, HaltState, encode
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.records import OwnerToken


async def quarantine(
    name: str, token: OwnerToken, environment: EngineEnvironment, reason: str, key: str | None = None
) -> None:
    """So that nobody tries again, and whoever looks finds the reason. `key`: of the call that is to blame. Raises
    `ProviderUnavailable`, `Fenced`."""
    halt = Halt(HaltState.QUARANTINED, reason, environment.wall_ms, key)
    await environment.home.halt(name, token, encode(halt))
    reach(Point.HALTED)

"""Becoming an instance's writer."""

from __future__ import annotations

import secrets

from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.records import Claim


async def claim_instance(name: str, environment: EngineEnvironment) -> Claim:
    """Become the instance's writer. Raises `ProviderUnavailable`, `LostWrites`."""
    claim = await environment.home.claim(name, secrets.token_hex(8), environment.host)
    reach(Point.CLAIMED)
    lost = environment.watch.check(name, claim)
    if lost:
        environment.hooks.lost(lost)
        words = f"the store has lost the last {lost} commits of the instance, which it had acknowledged"
        environment.log(name, "perdure", words.encode())
    return claim

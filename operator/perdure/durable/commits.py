"""Sending a commit until its outcome is known.

A commit is identified by (token, sequence). After a lost reply the very same commit is sent again: the store either
applies it now or recognises it. So an unknown outcome never becomes a double effect, only a wait.
"""

from __future__ import annotations

import asyncio

from perdure.durable.faultpoint import Point, reach
from perdure.durable.observer import Hooks
from perdure.durable.records import Commit, CommitOutcome
from perdure.durable.store import Store
from perdure.errors import Fenced, PerdureError, ProviderUnavailable

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0
_ATTEMPTS = 20


async def commit_surely(store: Store, commit: Commit, hooks: Hooks, provider: str, deadline: float) -> CommitOutcome:
    """Raises `Fenced`, or `ProviderUnavailable` when the outcome is still unknown at `deadline` (loop time)."""
    loop = asyncio.get_running_loop()
    delay = _FIRST_DELAY
    for attempt in range(_ATTEMPTS):
        try:
            reach(Point.COMMIT_BEFORE)
            outcome = await store.commit(commit)
            reach(Point.COMMIT_AFTER)
        except Fenced:
            hooks.commit("fenced")
            raise
        except ProviderUnavailable as error:
            hooks.provider_error(provider, error.code)
            if attempt == _ATTEMPTS - 1 or loop.time() + delay > deadline:
                hooks.commit("failed")
                raise ProviderUnavailable(
                    f"whether the call was carried out is unknown, the provider {provider!r} did not answer "
                    f"({error.detail}); repeat it with the same Idempotency-Key",
                    retry_after=error.retry_after,
                ) from error
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)
        except PerdureError:
            hooks.commit("failed")
            raise
        else:
            hooks.commit(outcome.value)
            return outcome
    raise AssertionError("the loop above returns or raises")

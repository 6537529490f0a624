"""Sending a commit until its outcome is known.

A commit is identified by (token, sequence). After a lost reply the very same commit is sent again: the store either
applies it now or recognises it. So an unknown outcome never becomes a double effect, only a wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from perdure.durable.faultpoint import Point, reach
from perdure.durable.observer import Hooks
from perdure.durable.records import Commit, Committed
from perdure.durable.store import Store
from perdure.errors import FeedFull, Fenced, LostWrites, Overloaded, PerdureError, ProviderUnavailable

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0
_ATTEMPTS = 20
T = TypeVar("T")


async def commit_surely(store: Store, commit: Commit, hooks: Hooks, provider: str, deadline: float) -> Committed:
    """Raises `Fenced` (doubtful, where a reply was lost before), `LostWrites`, `FeedFull`, or `ProviderUnavailable`
    when the outcome is still unknown at `deadline` (loop time)."""
    doubtful = False

    async def send() -> Committed:
        nonlocal doubtful
        reach(Point.COMMIT_BEFORE)
        try:
            committed = await store.commit(commit)
        except ProviderUnavailable as error:
            doubtful |= not error.untouched
            raise
        reach(Point.COMMIT_AFTER)
        return committed

    try:
        committed = await persist(send, hooks, provider, deadline)
    except Fenced as error:
        hooks.commit("fenced")
        raise Fenced(error.detail, doubtful=doubtful) from error
    except LostWrites:
        hooks.commit("lost")
        raise
    except FeedFull:
        hooks.commit("failed")
        raise
    except (ProviderUnavailable, Overloaded) as error:
        hooks.commit("failed")
        if not doubtful:
            raise
        raise ProviderUnavailable(
            f"whether a commit was applied is unknown, the provider {provider!r} did not answer ({error.detail})",
            retry_after=error.retry_after,
            doubtful=True,
        ) from error
    except PerdureError:
        hooks.commit("failed")
        raise
    hooks.commit(committed.status.value)
    return committed


async def persist(send: Callable[[], Awaitable[T]], hooks: Hooks, provider: str, deadline: float) -> T:
    """Repeat what may be repeated until the store answers; many callers do not return in step.

    Raises `ProviderUnavailable` or `Overloaded` at `deadline`, and other errors of `send` at once.
    """
    loop = asyncio.get_running_loop()
    delay = _FIRST_DELAY
    for attempt in range(_ATTEMPTS):
        try:
            return await send()
        except (LostWrites, FeedFull):
            raise
        except (ProviderUnavailable, Overloaded) as error:
            hooks.provider_error(provider, error.code)
            if attempt == _ATTEMPTS - 1 or loop.time() + delay > deadline:
                raise
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay = min(delay * 2, _LONGEST_DELAY)
    raise AssertionError("the loop above returns or raises")

"""Giving up an instance's memory while its asynchronous call waits long, for a promise or for an instant.

The journal has the call up to the gate that came before the wait, and whoever opens the instance next goes on from
there: it finds the wait over, or leaves again.
"""

from __future__ import annotations

from datetime import UTC, datetime

from perdure.durable.store import Store
from perdure.durable.writer import Running
from perdure.errors import ProviderUnavailable, Suspended


async def leave(instance: str, home: Store, running: Running | None, until: str | int) -> None:
    """Raises `Suspended` if the call under way goes on without anybody asking for it; else it stays in memory.
    `until`: as of `Suspended`."""
    if not await _goes_on(instance, home, running):
        return
    what = f"promise {until}" if isinstance(until, str) else _time(until)
    raise Suspended(
        f"instance {instance!r} is in the middle of an asynchronous call that waits for {what}: it takes other calls "
        "when that has ended",
        until=until,
    )


async def _goes_on(instance: str, home: Store, running: Running | None) -> bool:
    """It is in the inbox, and a part of it is durable."""
    if running is None or running.key is None or running.part == 0:
        return False
    try:
        return running.pending or await home.pending(instance, running.key) is not None
    except ProviderUnavailable:
        return False


def _time(until_ms: int) -> str:
    try:
        return datetime.fromtimestamp(until_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return "an instant beyond the year 9999"

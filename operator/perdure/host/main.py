"""Running a host until it is told to stop. The last words go to the pod's termination message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from perdure.errors import PerdureError
from perdure.host.app import RunningHost, running_host
from perdure.host.config import HostConfig
from perdure.host.loop import run

log = logging.getLogger(__name__)
_TERMINATION_LOG = Path("/dev/termination-log")


def serve(config: HostConfig, *, progress: Callable[[str], None], ready: Callable[[RunningHost], None]) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 drained, 1 could not start."""
    try:
        return run(_serve(config, progress, ready))
    except PerdureError as error:
        _last_words(f"{error.code}: {error.detail}")
        log.error("cannot start: %s", error.detail, extra={"fields": {"code": error.code}})
        return 1
    except OSError as error:
        log.error("cannot start: %s", error)
        return 1


async def _serve(config: HostConfig, progress: Callable[[str], None], ready: Callable[[RunningHost], None]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    stopping = asyncio.ensure_future(stop.wait())
    async with contextlib.AsyncExitStack() as stack:
        starting = asyncio.ensure_future(stack.enter_async_context(running_host(config, progress)))
        try:
            # A host that is told to stop while it compiles stops.
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                return 0
            ready(await starting)
            await stopping
        finally:
            stopping.cancel()
    return 0


def _last_words(text: str) -> None:
    if "POD_NAME" in os.environ:
        with contextlib.suppress(OSError):
            _TERMINATION_LOG.write_text(text, encoding="utf-8")

"""Named places where a fault test may stop the process. In production `reach` is a comparison with None.

`PERDURE_FAULTPOINT=commit.before:3` kills the process (SIGKILL) the third time the point is reached;
`PERDURE_FAULTPOINT=commit.before:3:stop` pauses it there (SIGSTOP). A test that runs the host inside its own entry
module may `observe` instead, and reach points of its own, such as those around each operation on a store.
"""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable


class Point(enum.StrEnum):
    """The engine's boundaries at which a crash must lose nothing and repeat nothing. Those around single operations on
    a store are beside these: a test has them by wrapping the store."""

    CLAIMED = "claimed"
    RESTORED = "restored"
    REPLAYED = "replayed"
    GUEST_DONE = "guest.done"
    COMMIT_BEFORE = "commit.before"
    COMMIT_AFTER = "commit.after"
    FOREIGN_BEFORE = "foreign.before"
    FOREIGN_AFTER = "foreign.after"
    APPLIED_AFTER = "applied.after"
    SNAPSHOT_BEFORE = "snapshot.before"
    SNAPSHOT_AFTER = "snapshot.after"
    ACCEPT_AFTER = "accept.after"
    TAKEN = "taken"
    POSTPONED = "postponed"
    HALTED = "halted"
    REPLYING = "replying"
    PROMISE_AFTER = "promise.after"
    WATCH_SENT = "watch.sent"
    WATCH_TOLD = "watch.told"


_SIGNALS = {"": signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}
Observer = Callable[[str], None]


def stopper(text: str) -> Observer:
    """An observer that stops the process as `text` (NAME, NAME:COUNT or NAME:COUNT:HOW) says."""
    name, _, rest = text.partition(":")
    number, _, how = rest.partition(":")
    count, signum, reached = int(number or 1), _SIGNALS[how], 0

    def stop(point: str) -> None:
        nonlocal reached
        if point == name:
            reached += 1
            if reached == count:
                os.kill(os.getpid(), signum)

    return stop


def _from_environment() -> Observer | None:
    text = os.environ.get("PERDURE_FAULTPOINT", "")
    if not text:
        return None
    Point(text.partition(":")[0])
    return stopper(text)


_observer = _from_environment()


def observe(observer: Observer | None) -> None:
    """Call `observer` with the name of each point that is reached from now on."""
    global _observer
    _observer = observer


def reach(point: str) -> None:
    """Called by the engine at a `Point`."""
    if _observer is not None:
        _observer(point)

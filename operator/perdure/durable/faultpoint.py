"""Named places where a fault test may stop the process. In production `reach` is a comparison with None.

`PERDURE_FAULTPOINT=commit.before:3` kills the process (SIGKILL) the third time the point is reached;
`PERDURE_FAULTPOINT=commit.before:3:stop` pauses it there (SIGSTOP).
"""

from __future__ import annotations

import enum
import os
import signal


class Point(enum.StrEnum):
    """Every boundary at which a crash must lose nothing and repeat nothing."""

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


_SIGNALS = {"": signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def _armed() -> tuple[str, int, signal.Signals] | None:
    text = os.environ.get("PERDURE_FAULTPOINT", "")
    name, _, rest = text.partition(":")
    count, _, how = rest.partition(":")
    return (Point(name).value, int(count or 1), _SIGNALS[how]) if name else None


_target = _armed()
_reached = 0


def reach(point: Point) -> None:
    """Called by the engine at `point`."""
    if _target is None:
        return
    global _reached
    if _target[0] == point.value:
        _reached += 1
        if _reached == _target[1]:
            os.kill(os.getpid(), _target[2])

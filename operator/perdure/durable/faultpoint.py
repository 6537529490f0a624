"""Named places where a fault test may stop the process. In production `reach` is a comparison with None.

`PERDURE_FAULTPOINT=commit.sent:3` kills the process (SIGKILL) the third time the point is reached.
"""

from __future__ import annotations

import enum
import os
import signal


class Point(enum.StrEnum):
    """Every boundary at which a crash must lose nothing and repeat nothing."""

    CLAIMED = "claimed"
    REPLAYED = "replayed"
    GUEST_DONE = "guest.done"
    COMMIT_BEFORE = "commit.before"
    COMMIT_AFTER = "commit.after"
    FOREIGN_BEFORE = "foreign.before"
    FOREIGN_AFTER = "foreign.after"
    APPLIED_AFTER = "applied.after"


def _armed() -> tuple[str, int] | None:
    text = os.environ.get("PERDURE_FAULTPOINT", "")
    name, _, count = text.partition(":")
    return (Point(name).value, int(count or 1)) if name else None


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
            os.kill(os.getpid(), signal.SIGKILL)

"""`wasi:cli/exit`, and what it means to a command (`wasi:cli/run`): the end of its run, with success or without."""

from __future__ import annotations

import re

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok
from perdure.errors import GuestTrapped
from perdure.wasi.state import WasiContext

_RUN = re.compile(r"wasi:cli/run@0\.2\.\d+\.run")


class Exited(HostTrap):
    """The guest is over. Only a command may end so, and one whose memory nobody needs afterwards."""

    def __init__(self, *, success: bool) -> None:
        super().__init__(
            f"the guest called exit ({'success' if success else 'failure'}): an instance does not exit, but for the "
            "run of a command whose memory is the invocation's (spec.durability.memory)"
        )
        self.success = success


def leave(ctx: WasiContext, status: object) -> None:
    """`exit` (a result) and `exit-with-code` (a number)."""
    raise Exited(success=isinstance(status, Ok) or status == 0)


def is_command(path: str) -> bool:
    """Whether a function's path is that of a command's `run`."""
    return _RUN.fullmatch(path) is not None


def exited(error: GuestTrapped) -> Ok | Err | None:
    """What `run` gives where it ended so; None for any other trap."""
    cause = error.__cause__
    return (Ok() if cause.success else Err()) if isinstance(cause, Exited) else None

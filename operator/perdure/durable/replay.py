"""Rebuilding an instance's memory from its journal: instantiate, then every finished invocation again.

Nothing leaves: host calls are answered from the journal, writes end in an overlay that is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from perdure.component.plan import ExportedFunc
from perdure.component.wit_json import args_from_json
from perdure.durable.journal import Entry, Event
from perdure.durable.overlay import Overlay
from perdure.durable.recorder import JournalRecorder
from perdure.errors import GuestTrapped, PerdureError, Quarantined


class Guest(Protocol):
    """A running component, as `perdure.component.instance.Instance`."""

    usable: bool

    async def call(self, func: ExportedFunc, args: Sequence[object], *, deadline: float | None = None) -> object:
        """Call an export."""

    def close(self) -> None:
        """Free it."""


def decode_arguments(func: ExportedFunc, arguments: bytes) -> list[object]:
    """The values of a canonical JSON array."""
    return args_from_json(func.type, msgspec.json.decode(arguments))


def start_events(entries: Sequence[Entry]) -> list[Event] | None:
    """The recorded events of the instance's first instantiation; None: there was none yet."""
    return entries[0].start or [] if entries else None


def require_component(entries: Sequence[Entry], digest: str) -> None:
    """An instance runs on the code its journal names. Raises `Quarantined` naming both digests."""
    for entry in entries:
        if entry.component != digest:
            raise Quarantined(
                f"the instance's journal was written by component {entry.component}, this host runs {digest}: "
                "replay on other code could take another path. Run the former component, or delete the instance"
            )


async def replay_entries(
    guest: Guest,
    entries: Sequence[Entry],
    functions: Mapping[str, ExportedFunc],
    recorder: JournalRecorder,
    overlay: Overlay,
    deadline: float | None,
) -> None:
    """Run every entry again. Raises `Quarantined` or `ReplayDiverged` naming the entry."""
    for entry in entries:
        what = f"journal entry {entry.sequence} ({entry.function})"
        func = functions.get(entry.function)
        if func is None:
            raise Quarantined(f"{what}: the component exports no such function")
        recorder.replay(entry.events, what)
        try:
            await guest.call(func, decode_arguments(func, entry.arguments), deadline=deadline)
        except GuestTrapped as error:
            raise Quarantined(f"{what}: the guest trapped on replay where it had not before: {error.detail}") from error
        except PerdureError as error:
            if isinstance(error, Quarantined) or error.retryable:
                raise
            raise Quarantined(f"{what}: {error.detail}") from error
        recorder.finish_replay()
        overlay.clear()

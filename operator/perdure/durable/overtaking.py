"""Applying foreign effects at a server that compares revisions and writes, but does not compute: read, plan, and write
on the condition that nothing that was read has changed, as often as somebody else was faster."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from perdure.durable.effects import BucketAddress, bounded, decode_outcomes, encode_outcomes
from perdure.durable.planning import Held, Planned, Room, Spot, looked_at, plan, touched
from perdure.durable.records import CommitStatus, Committed, ForeignApply
from perdure.errors import ProviderUnavailable

_ATTEMPTS = 32
_REMEMBERED = 10_000
_SMALL = 64


@dataclass(frozen=True, slots=True)
class Mark:
    """The dedup record of an origin: the highest sequence applied, and its outcomes. Revision 0: there is none."""

    revision: int = 0
    sequence: int = -1
    outcomes: bytes = b""

    def pack(self) -> bytes:
        """As it is stored."""
        return self.sequence.to_bytes(8, "big") + self.outcomes

    @classmethod
    def unpack(cls, revision: int, data: bytes) -> Mark:
        return cls(revision, int.from_bytes(data[:8], "big"), data[8:])


@dataclass(frozen=True, slots=True)
class Seen:
    """What a write stands on. `revisions`: of the keys that decide; 0 where there is none. `room`: of the bucket of an
    effect that has `max_keys`."""

    mark: Mark = Mark()
    held: dict[Spot, Held | None] = field(default_factory=dict)
    revisions: dict[Spot, int] = field(default_factory=dict)
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """To be done as a whole if the record of `origin`, every one of `spots` and the note of the bucket `noted` still
    has the revision of `seen`. `record`: what the dedup record is then. `origin` None: there is no record."""

    origin: str | None
    seen: Seen
    spots: Sequence[Spot]
    planned: Planned
    record: bytes
    noted: BucketAddress | None = None


class Overtaking:
    """`read(origin, spots)`; `write` gives the record's new revision, or what there is now, where somebody was faster;
    `room(bucket, keys, most)`: the note's revision is not younger than the rest, and the count may be above the truth
    while it leaves room for all of these keys below `most`. All raise as `apply_foreign`."""

    def __init__(
        self,
        read: Callable[[str | None, Sequence[Spot]], Awaitable[Seen]],
        write: Callable[[Write], Awaitable[int | Seen]],
        room: Callable[[BucketAddress, Sequence[str], int], Awaitable[Room]],
        what: Callable[[], str],
    ) -> None:
        """`what`: the server, for words."""
        self._read = read
        self._write = write
        self._room = room
        self._what = what
        # The last record of an origin is mostly our own, so that it need not be read before the next one.
        self._marks: OrderedDict[str, Mark] = OrderedDict()

    async def apply(self, apply: ForeignApply) -> Committed:
        """See `BucketStore.apply_foreign`."""
        spots, origin = looked_at(apply.effects), apply.origin if apply.sequence else None
        last = bounded(apply.effects)
        seen = await self._read(origin, spots) if spots else Seen(self._marks.get(apply.origin, Mark()))
        for attempt in range(_ATTEMPTS):
            if origin is not None and apply.sequence <= seen.mark.sequence:
                self._remember(apply.origin, seen.mark)
                same = apply.sequence == seen.mark.sequence
                return Committed(CommitStatus.DUPLICATE, decode_outcomes(seen.mark.outcomes) if same else [])
            if last is not None:
                room = await self._room(last.bucket, touched(apply.effects, last.bucket), last.max_keys or 0)
                seen = replace(seen, room=room)
            planned = plan(apply.effects, seen.held, now_ms(), seen.room)
            if origin is None and not planned.writes:
                return Committed(CommitStatus.APPLIED, list(planned.outcomes))
            mark = Mark(0, apply.sequence, encode_outcomes(planned.outcomes))
            done = await self._write(Write(origin, seen, spots, planned, mark.pack(), last.bucket if last else None))
            if isinstance(done, int):
                if origin is not None:
                    self._remember(origin, Mark(done, mark.sequence, mark.outcomes))
                return Committed(CommitStatus.APPLIED, list(planned.outcomes))
            seen = done
            if attempt:
                await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 7)))  # noqa: S311 - jitter
        raise ProviderUnavailable(f"{self._what()}: others changed the same keys {_ATTEMPTS} times in a row")

    def _remember(self, origin: str, mark: Mark) -> None:
        if len(mark.outcomes) > _SMALL:
            self._marks.pop(origin, None)
            return
        self._marks[origin] = mark
        self._marks.move_to_end(origin)
        if len(self._marks) > _REMEMBERED:
            self._marks.popitem(last=False)

    def forget(self) -> None:
        """The records of all origins; they are read again."""
        self._marks.clear()


def now_ms() -> int:
    """The hosts' clocks tell when a value is past its time: such a server tells no time that is fine enough."""
    return time.time_ns() // 1_000_000

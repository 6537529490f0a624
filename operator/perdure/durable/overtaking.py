"""Applying foreign effects at a server that compares revisions and writes, but does not compute: read, plan, and write
on the condition that nothing that was read has changed, as often as somebody else was faster."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from perdure.durable.effects import decode_outcomes, encode_outcomes
from perdure.durable.planning import Held, Planned, Spot, looked_at, plan
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
    """What a write stands on. `revisions`: of the keys that decide; 0 where there is none."""

    mark: Mark
    held: dict[Spot, Held | None] = field(default_factory=dict)
    revisions: dict[Spot, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Write:
    """To be done as a whole if the record of `origin` and every one of `spots` still has the revision of `seen`.
    `record`: what the dedup record is then."""

    origin: str
    seen: Seen
    spots: Sequence[Spot]
    planned: Planned
    record: bytes


class Overtaking:
    """`read(origin, spots)`; `write` gives the record's new revision, or what there is now, where somebody was faster.
    Both raise as `apply_foreign`."""

    def __init__(
        self,
        read: Callable[[str, Sequence[Spot]], Awaitable[Seen]],
        write: Callable[[Write], Awaitable[int | Seen]],
        what: Callable[[], str],
    ) -> None:
        """`what`: the server, for words."""
        self._read = read
        self._write = write
        self._what = what
        # The last record of an origin is mostly our own, so that it need not be read before the next one.
        self._marks: OrderedDict[str, Mark] = OrderedDict()

    async def apply(self, apply: ForeignApply) -> Committed:
        """See `BucketStore.apply_foreign`."""
        spots = looked_at(apply.effects)
        seen = await self._read(apply.origin, spots) if spots else Seen(self._marks.get(apply.origin, Mark()))
        for attempt in range(_ATTEMPTS):
            if apply.sequence <= seen.mark.sequence:
                self._remember(apply.origin, seen.mark)
                same = apply.sequence == seen.mark.sequence
                return Committed(CommitStatus.DUPLICATE, decode_outcomes(seen.mark.outcomes) if same else [])
            planned = plan(apply.effects, seen.held, now_ms())
            mark = Mark(0, apply.sequence, encode_outcomes(planned.outcomes))
            done = await self._write(Write(apply.origin, seen, spots, planned, mark.pack()))
            if isinstance(done, int):
                self._remember(apply.origin, Mark(done, mark.sequence, mark.outcomes))
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

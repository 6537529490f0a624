"""Noticing that the home store holds less than it acknowledged: a host remembers what it has seen.

A store that was emptied, or replaced as a whole, has another identity: then nothing runs until the host is started
anew. One that lost its latest writes (a failover to a replica that lagged behind, an old backup) gives a sequence
below one that this host saw committed: that is counted and reported, and the instance goes on from what is there.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from perdure.durable.records import Claim
from perdure.errors import LostWrites

_REMEMBERED = 10_000


@dataclass(slots=True)
class HomeWatch:
    """`problem`: why nothing runs, or None. `lost`: commits known to be lost since the start."""

    problem: str | None = None
    lost: int = 0
    _identity: str | None = None
    _seen: OrderedDict[str, tuple[str, int]] = field(default_factory=OrderedDict)

    def saw(self, instance: str, life: str, sequence: int) -> None:
        """This host was told that the commit was applied."""
        self._seen[instance] = (life, sequence)
        self._seen.move_to_end(instance)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def check(self, instance: str, claim: Claim) -> int:
        """How many commits of this instance the store has lost. Raises `LostWrites` when all contents were replaced."""
        if self._identity is None:
            self._identity = claim.store
        elif claim.store != self._identity and self.problem is None:
            self.problem = (
                "the contents of the home store were replaced while this host ran (emptied, or another server): "
                "nothing runs until its hosts are restarted, which accepts the store as it is now"
            )
        if self.problem is not None:
            raise LostWrites(self.problem, retry_after=30)
        life, sequence = self._seen.pop(instance, ("", 0))
        lost = max(0, sequence - claim.data.sequence) if life == claim.data.life else 0
        self.lost += lost
        return lost

"""What this host learns by running instances: which of them other hosts take from it again and again, and which are
quarantined.

Two live hosts that do not see each other in the membership both believe that an instance is theirs, and claim it in
turns. Nothing goes wrong by that, for the token fences whoever lost it, but every call is run twice and replayed in
between. So a host that was fenced from one instance more often than a takeover explains waits before it claims it once
more, longer each time and never exactly as long as the other.
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from perdure.errors import Fenced, HostLeaving, Quarantined

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _History:
    """`fenced`: when, the last few times. `until`: before that no new claim. `rounds`: conflicts so far."""

    fenced: deque[float] = field(default_factory=lambda: deque(maxlen=16))
    until: float = 0.0
    rounds: int = 0


class Ownership:
    """Bounded: it remembers `most` instances, and the latest ones where there are more.

    `tolerated`: how often within `window` seconds an instance may be lost without a suspicion. `first`, `longest`:
    seconds to wait. `conflict` is called for each wait. `mine`: whether an instance is this host's now.
    """

    def __init__(
        self,
        conflict: Callable[[], None],
        *,
        most: int = 4096,
        window: float = 30.0,
        tolerated: int = 2,
        first: float = 0.1,
        longest: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conflict = conflict
        self._most = most
        self._window = window
        self._tolerated = tolerated
        self._first = first
        self._longest = longest
        self._clock = clock
        self._histories: OrderedDict[str, _History] = OrderedDict()
        self._quarantined: OrderedDict[str, None] = OrderedDict()
        self.mine: Callable[[str], bool] = lambda name: True

    def quarantined(self) -> list[str]:
        """The instances that this host has met in quarantine and that are its own (`mine`), the latest ones first. What
        another host has got may run again by its word, and is counted there."""
        for name in [name for name in self._quarantined if not self.mine(name)]:
            del self._quarantined[name]
        return list(reversed(self._quarantined))

    def delay(self, name: str) -> float:
        """Seconds to wait before this host claims the instance; 0.0: it may."""
        history = self._histories.get(name)
        return 0.0 if history is None else max(0.0, history.until - self._clock())

    @contextmanager
    def observed(self, name: str) -> Iterator[None]:
        """Around anything that runs on an instance here. Passes every error on."""
        try:
            yield
        except HostLeaving:
            raise
        except Fenced:
            self._fenced(name)
            raise
        except Quarantined:
            self._remember_quarantined(name)
            raise
        else:
            self._quarantined.pop(name, None)

    def forget(self, name: str) -> None:
        """The instance was deleted."""
        self._histories.pop(name, None)
        self._quarantined.pop(name, None)

    def _fenced(self, name: str) -> None:
        now = self._clock()
        history = self._histories.setdefault(name, _History())
        self._histories.move_to_end(name)
        if len(self._histories) > self._most:
            self._histories.popitem(last=False)
        if history.fenced and now - history.fenced[-1] > self._window:
            history.fenced.clear()
            history.rounds = 0
        history.fenced.append(now)
        recent = sum(1 for at in history.fenced if now - at <= self._window)
        if recent <= self._tolerated:
            return
        longest = min(self._longest, self._first * 2.0 ** min(history.rounds, 30))
        history.until = now + longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        history.rounds += 1
        self._conflict()
        if history.rounds == 1:
            log.warning(
                "another live host takes this instance again and again: it is claimed less often from now on. "
                "Hosts must reach the same store and agree on who is live",
                extra={"fields": {"instance": name}},
            )

    def _remember_quarantined(self, name: str) -> None:
        self._quarantined[name] = None
        self._quarantined.move_to_end(name)
        if len(self._quarantined) > self._most:
            self._quarantined.popitem(last=False)

"""What a fuzzer is, and what a run of its cases has seen.

A case follows from its seed and its number alone. `campaign.py` has cases run in child processes (`worker.py`), so that a
crash, a hang or a swollen process is a finding with a number.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from support.generated.source import Seeded


@dataclass
class Figures:
    """What a run has seen. `worst` is the processor time of the slowest case, in seconds; `worst_case`: (seed, number)."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0
    worst_case: tuple[int, int] = (-1, -1)
    peak_mb: float = 0.0

    def add(self, other: Figures) -> None:
        self.cases += other.cases
        self.outcomes.update(other.outcomes)
        if other.worst > self.worst:
            self.worst, self.worst_case = other.worst, other.worst_case
        self.peak_mb = max(self.peak_mb, other.peak_mb)


@dataclass(frozen=True)
class Finding:
    """`case`: its number under the seed. `data`: the input, where the fuzzer can show it as bytes."""

    seed: int
    case: int
    what: str
    detail: str
    data: bytes | None = None

    @property
    def is_crash(self) -> bool:
        """The process died or stayed where it was."""
        return self.what.startswith(("crash", "hang"))


class Unexpected(Exception):
    """Raised by a fuzzer's `run` for an outcome that is wrong though nothing was raised."""


class Fuzzer:
    """What a fuzzer provides. One object lives in each child process."""

    name: str
    unit: str = "cases"
    """What its outcomes are counted in."""
    accepted: tuple[str, ...] = ()
    """Outcomes in which the input was taken; the others are refusals and traps."""
    slow: float = 3.0
    """Processor seconds beyond which a case is a finding."""
    hang: float = 60.0
    """Wall seconds at one case after which the child is killed."""
    swell_mb: float = 300.0
    """Growth of the process's peak by one case that is a finding."""
    address_space_mb: int | None = None

    def run(self, number: int, source: Seeded) -> tuple[str, ...]:
        """One case; returns the names of its outcomes. Whatever it raises is a finding."""
        raise NotImplementedError

    def data(self, number: int, source: Seeded) -> bytes | None:
        """The input of a case, for the record."""
        return None

    def close(self) -> None:
        """The run is over."""


def source_of(seed: int, number: int) -> Seeded:
    """The choices of one case."""
    return Seeded(random.Random(f"{seed}:{number}").getrandbits(64))

"""The child process of a campaign: runs cases one after the other and says what came of them, a line of JSON at a time.

It writes the number of the case it is at into a file that it shares with its parent before it begins the case.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fuzz.harness import Figures, Fuzzer, source_of

STATE = 16
"""Bytes shared with the child: the number of the case it is at, and when it began it, in nanoseconds. Each is written
in one piece, which `struct.pack_into` does not promise."""
_EVERY = 2.0
Say = Callable[[dict[str, object]], None]


def run_worker(make: Callable[[], Fuzzer], shared: str, seed: int, first: int, cases: int, seconds: float) -> int:
    """`shared`: the file. Ends after `cases` cases, or with the case in which `seconds` are over."""
    until = time.monotonic() + seconds
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops it
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    fuzzer = make()
    if fuzzer.address_space_mb is not None:
        limit = fuzzer.address_space_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with open(shared, "r+b") as file:
        state = memoryview(mmap.mmap(file.fileno(), STATE)).cast("Q")
        _work(fuzzer, seed, range(first, first + cases), until, state, _say)
    return 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _work(fuzzer: Fuzzer, seed: int, numbers: range, until: float, state: memoryview, say: Say) -> None:
    figures = Figures()
    said = time.monotonic()
    peak = _peak_mb()
    number = numbers.start - 1
    for number in numbers:
        state[0], state[1] = number, time.monotonic_ns()
        began = time.process_time()
        try:
            figures.outcomes.update(fuzzer.run(number, source_of(seed, number)))
        except Exception as error:  # noqa: BLE001 - whatever a case raises is a finding
            figures.outcomes["finding"] += 1
            what = f"{type(error).__name__}: {error}"[:300]
            say({"finding": number, "what": what, "detail": traceback.format_exc()[-6000:]})
        took = time.process_time() - began
        if took > figures.worst:
            figures.worst, figures.worst_case = took, (seed, number)
        if took > fuzzer.slow:
            say({"finding": number, "what": f"slow: {took:.1f} s of processor time", "detail": ""})
        now = _peak_mb()
        if now > peak + fuzzer.swell_mb:
            say({"finding": number, "what": f"the process grew from {peak:.0f} to {now:.0f} MB", "detail": ""})
        peak = now
        figures.cases += 1
        here = time.monotonic()
        if here > until:
            break
        if here - said > _EVERY:
            said = here
            _say_figures(figures, number + 1, say)
            figures = Figures()
    _say_figures(figures, number + 1, say)
    fuzzer.close()


def _say_figures(figures: Figures, following: int, say: Say) -> None:
    """`next`: the number of the first case that is not in any figures yet."""
    say(
        {
            "next": following,
            "cases": figures.cases,
            "outcomes": dict(figures.outcomes),
            "worst": figures.worst,
            "worst_case": figures.worst_case[1],
            "peak_mb": _peak_mb(),
        }
    )


def _peak_mb() -> float:
    """Of this program alone: what `getrusage` says begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

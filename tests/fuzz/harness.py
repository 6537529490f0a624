"""Runs a fuzzer's cases in a child process, so that a crash, a hang or a swollen process is a finding with a number.

The child writes the number of the case it is at into a shared file before it begins it. When it dies, or stays at
one case for too long, the case is known; it is saved, and another child goes on with the next.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.generated.source import Seeded

TESTS = Path(__file__).resolve().parents[1]
_STATE = 16
"""Bytes shared with the child: the number of the case it is at, and when it began it, in nanoseconds. Each is written
in one piece, which `struct.pack_into` does not promise."""
_EVERY = 2.0
_START = 120_000_000_000
_PROGRESS = 60.0
_KILLED = "crash: SIGKILL"


@dataclass
class Figures:
    """What a run has seen. `worst` is the processor time of the slowest case, in seconds."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0
    worst_case: int = -1
    peak_mb: float = 0.0

    def add(self, other: Figures) -> None:
        self.cases += other.cases
        self.outcomes.update(other.outcomes)
        if other.worst > self.worst:
            self.worst, self.worst_case = other.worst, other.worst_case
        self.peak_mb = max(self.peak_mb, other.peak_mb)


@dataclass(frozen=True)
class Finding:
    """`case`: its number under the run's seed. `data`: the input, where the fuzzer can show it as bytes."""

    case: int
    what: str
    detail: str
    data: bytes | None = None


class Unexpected(Exception):
    """Raised by a fuzzer's `run` for an outcome that is wrong though nothing was raised."""


class Fuzzer:
    """What a fuzzer provides. One object lives in each child process."""

    name: str
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


# --- the child


def work(
    fuzzer: Fuzzer, seed: int, first: int, last: int, state: memoryview, say: Callable[[dict[str, object]], None]
) -> None:
    """Cases `first` to `last` (exclusive). Findings and figures go to `say`."""
    figures = Figures()
    said = time.monotonic()
    peak = _peak_mb()
    for number in range(first, last):
        state[0], state[1] = number, time.monotonic_ns()
        began = time.process_time()
        try:
            figures.outcomes.update(fuzzer.run(number, source_of(seed, number)))
        except Exception as error:  # noqa: BLE001 - whatever a case raises is a finding
            figures.outcomes["finding"] += 1
            say(
                {
                    "finding": number,
                    "what": f"{type(error).__name__}: {error}"[:300],
                    "detail": traceback.format_exc()[-6000:],
                }
            )
        took = time.process_time() - began
        if took > figures.worst:
            figures.worst, figures.worst_case = took, number
        if took > fuzzer.slow:
            say({"finding": number, "what": f"slow: {took:.1f} s of processor time", "detail": ""})
        now = _peak_mb()
        if now > peak + fuzzer.swell_mb:
            say({"finding": number, "what": f"the process grew from {peak:.0f} to {now:.0f} MB", "detail": ""})
        peak = now
        figures.cases += 1
        if time.monotonic() - said > _EVERY:
            said = time.monotonic()
            _say_figures(figures, say)
            figures = Figures()
    _say_figures(figures, say)
    fuzzer.close()


def _say_figures(figures: Figures, say: Callable[[dict[str, object]], None]) -> None:
    say(
        {
            "cases": figures.cases,
            "outcomes": dict(figures.outcomes),
            "worst": figures.worst,
            "worst_case": figures.worst_case,
            "peak_mb": _peak_mb(),
        }
    )


def _peak_mb() -> float:
    """Of this program alone: what `getrusage` says begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


# --- the parent


@dataclass
class Run:
    """A whole run: `figures` and `findings` are complete when `supervise` has returned."""

    fuzzer: str
    seed: int
    figures: Figures = field(default_factory=Figures)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def report(self) -> str:
        f = self.figures
        outcomes = ", ".join(f"{name} {count:,}" for name, count in f.outcomes.most_common())
        lines = [
            f"{self.fuzzer}: {f.cases:,} cases, seed {self.seed}, {self.seconds:.0f} s, {f.cases / max(self.seconds, 0.01):,.0f} cases/s",
            f"  outcomes: {outcomes}",
            f"  worst case: number {f.worst_case}, {f.worst * 1000:.0f} ms of processor time; peak {f.peak_mb:.0f} MB",
            f"  findings: {len(self.findings)}",
        ]
        return "\n".join([*lines, *(f"    case {one.case}: {one.what}" for one in self.findings[:50])])


def supervise(
    make: Callable[[], Fuzzer],
    module: str,
    *,
    seed: int,
    cases: int,
    first: int = 0,
    jobs: int = 1,
    most_findings: int = 100,
) -> Run:
    """Run `cases` cases from number `first` on, in `jobs` child processes."""
    run = Run(module.rpartition(".")[2], seed)
    began = time.monotonic()
    share = -(-cases // jobs)
    lock = threading.Lock()
    workers = []
    for job in range(jobs):
        bounds = (first + job * share, min(first + (job + 1) * share, first + cases))
        workers.append(threading.Thread(target=_job, args=(make, module, run, lock, *bounds, most_findings)))
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(_PROGRESS)
            if worker.is_alive():
                seconds = time.monotonic() - began
                print(
                    f"  {run.figures.cases:,} cases after {seconds:.0f} s, {len(run.findings)} findings",
                    file=sys.stderr,
                    flush=True,
                )
    run.seconds = time.monotonic() - began
    return run


def _job(
    make: Callable[[], Fuzzer], module: str, run: Run, lock: threading.Lock, first: int, last: int, most: int
) -> None:
    fuzzer = make()
    killed = -1
    try:
        while first < last and len(run.findings) < most:
            died = _child(fuzzer, module, run, lock, first, last)
            if died is None:
                return
            if died.what == _KILLED and died.case != killed:
                first = killed = died.case  # no case can do that; somebody else may have: once more
                continue
            with lock:
                run.findings.append(replace(died, data=fuzzer.data(died.case, source_of(run.seed, died.case))))
                run.figures.cases += 1
                run.figures.outcomes[died.what.partition(":")[0]] += 1
            first = died.case + 1
    finally:
        fuzzer.close()


def _child(fuzzer: Fuzzer, module: str, run: Run, lock: threading.Lock, first: int, last: int) -> Finding | None:
    """One child. Returns the case at which it died, and how; None when it came to its end."""
    with tempfile.NamedTemporaryFile() as shared:
        shared.write(bytes(_STATE))
        shared.flush()
        mapped = mmap.mmap(shared.fileno(), _STATE)
        state = memoryview(mapped).cast("Q")
        state[0], state[1] = first, time.monotonic_ns() + _START  # it has not begun: its start-up is not a hang
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                module,
                "--worker",
                shared.name,
                "--seed",
                str(run.seed),
                "--first",
                str(first),
                "--cases",
                str(last - first),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )
        hung = threading.Event()
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(child, state, fuzzer.hang, hung, done))
        watch.start()
        errors: list[str] = []
        drain = threading.Thread(target=lambda: errors.append(child.stderr.read() if child.stderr else ""))
        drain.start()
        assert child.stdout is not None
        said = 0
        try:
            for line in child.stdout:
                with lock:
                    said += _heard(json.loads(line), run, fuzzer)
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            done.set()
            watch.join()
            drain.join()
            child.stdout.close()
            if child.stderr:
                child.stderr.close()
        number = state[0]
        state.release()
        mapped.close()
    if code == 0:
        return None
    with lock:
        run.figures.cases += number - first - said  # those since it last spoke
    story = errors[0].strip()[-6000:] if errors else ""
    if hung.is_set():
        return Finding(number, f"hang: more than {fuzzer.hang:.0f} s", story)
    return Finding(number, f"crash: {signal.Signals(-code).name}" if code < 0 else f"crash: exit code {code}", story)


def _watch(
    child: subprocess.Popen[str], state: memoryview, limit: float, hung: threading.Event, done: threading.Event
) -> None:
    while not done.wait(0.5):
        if time.monotonic_ns() - state[1] > limit * 1e9:
            hung.set()
            child.send_signal(signal.SIGUSR1)  # it writes where it is
            done.wait(1.0)
            child.kill()
            return


def _heard(line: dict[str, object], run: Run, fuzzer: Fuzzer) -> int:
    """Take in what a child said; returns how many cases it spoke of."""
    if "finding" in line:
        number = int(str(line["finding"]))
        print(f"  case {number}: {line['what']}", file=sys.stderr, flush=True)
        data = fuzzer.data(number, source_of(run.seed, number))
        run.findings.append(Finding(number, str(line["what"]), str(line["detail"]), data))
        return 0
    outcomes = line["outcomes"]
    assert isinstance(outcomes, dict)
    figures = Figures(
        int(str(line["cases"])),
        Counter({str(name): int(count) for name, count in outcomes.items()}),
        float(str(line["worst"])),
        int(str(line["worst_case"])),
        float(str(line["peak_mb"])),
    )
    run.figures.add(figures)
    return figures.cases


# --- the command


def main(make: Callable[[], Fuzzer], module: str, about: str) -> int:
    """The command line that every fuzzer has. 1 when there are findings."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="where inputs with findings are kept")
    parser.add_argument("--here", action="store_true", help="run in this process, for a debugger; a finding is raised")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return _worker(make, args)
    if args.here:
        fuzzer = make()
        for number in range(args.first, args.first + args.cases):
            print(number, fuzzer.run(number, source_of(args.seed, number)))
        fuzzer.close()
        return 0
    run = supervise(make, module, seed=args.seed, cases=args.cases, first=args.first, jobs=args.jobs)
    print(run.report())
    for finding in run.findings:
        keep(run, finding, args.out)
    return 1 if run.findings else 0


def keep(run: Run, finding: Finding, directory: Path) -> None:
    """Write a finding's input and story, for a person to look at."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / f"{run.fuzzer}-{run.seed}-{finding.case}"
    stem.with_suffix(".txt").write_text(
        f"{finding.what}\n\npython -m fuzz.{run.fuzzer} --seed {run.seed} --first {finding.case} --cases 1 --here\n\n{finding.detail}\n"
    )
    if finding.data is not None:
        stem.with_suffix(".wasm").write_bytes(finding.data)


def _worker(make: Callable[[], Fuzzer], args: argparse.Namespace) -> int:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    fuzzer = make()
    if fuzzer.address_space_mb is not None:
        limit = fuzzer.address_space_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def say(line: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    with open(args.worker, "r+b") as shared:
        state = memoryview(mmap.mmap(shared.fileno(), _STATE)).cast("Q")
        work(fuzzer, args.seed, args.first, args.first + args.cases, state, say)
    return 0

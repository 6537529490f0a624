"""Runs a fuzzer's cases in child processes, one for each seed, and keeps count: by number of cases, by time, to be resumed.

When a child dies, or stays at one case for too long, the case is known by its number; it is saved, and another child goes
on with the next. docs/fuzzing.md has the commands.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.harness import Figures, Finding, Fuzzer, source_of
from fuzz.worker import STATE

TESTS = Path(__file__).resolve().parents[1]
_START = 120_000_000_000
"""Nanoseconds that a child may take to begin its first case."""
_KILLED = "crash: SIGKILL"


@dataclass
class Share:
    """What one job does: the cases `first` to `last` (exclusive) of a seed. `next`: the first that is not done."""

    seed: int
    first: int
    last: int
    next: int


@dataclass
class Run:
    """A whole run: `figures` and `findings` are complete when `supervise` has returned. `seconds`: those of the runs that
    it resumes are in it."""

    fuzzer: str
    shares: list[Share]
    figures: Figures = field(default_factory=Figures)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        return all(share.next >= share.last for share in self.shares)

    def report(self, fuzzer: type[Fuzzer]) -> str:
        f = self.figures
        seeds = ", ".join(str(share.seed) for share in self.shares)
        outcomes = ", ".join(f"{name} {count:,}" for name, count in f.outcomes.most_common())
        crashes = sum(finding.is_crash for finding in self.findings)
        wanted = sum(share.last - share.first for share in self.shares)
        rate = f.cases / max(self.seconds, 0.01)
        worst = f"seed {f.worst_case[0]} number {f.worst_case[1]}, {f.worst * 1000:.0f} ms of processor time"
        lines = [
            f"{self.fuzzer}: {f.cases:,} of {wanted:,} cases, seeds {seeds}, {self.seconds:.0f} s, {rate:,.0f} cases/s",
            f"  {taken(f, fuzzer)}",
            f"  outcomes: {outcomes}",
            f"  worst case: {worst}; peak {f.peak_mb:.0f} MB",
            f"  crashes and hangs: {crashes}, other findings: {len(self.findings) - crashes}",
        ]
        return "\n".join([*lines, *(f"    seed {one.seed} case {one.case}: {one.what}" for one in self.findings[:50])])


def taken(figures: Figures, fuzzer: type[Fuzzer]) -> str:
    """How many were accepted, in words."""
    accepted = sum(count for name, count in figures.outcomes.items() if name in fuzzer.accepted)
    total = sum(figures.outcomes.values())
    return f"{total:,} {fuzzer.unit}: {accepted:,} accepted, {total - accepted:,} refused or trapped"


def shares_of(seed: int, cases: int, first: int, jobs: int) -> list[Share]:
    """`cases` in all, from number `first` on, under the seeds `seed`, `seed + 1`, … of `jobs` jobs."""
    each = [cases // jobs + (job < cases % jobs) for job in range(jobs)]
    return [Share(seed + job, first, first + count, first) for job, count in enumerate(each)]


class Campaign:
    """A run under way. `limit`: seconds from now. `record`: a file that is kept up to date, to be resumed from; inputs
    with findings go beside it."""

    def __init__(
        self,
        make: type[Fuzzer],
        module: str,
        run: Run,
        *,
        limit: float = math.inf,
        record: Path | None = None,
        progress: float = 30.0,
        most_findings: int = 100,
    ) -> None:
        self.run = run
        self._make = make
        self._module = module
        self._before = run.seconds
        self._resumed = list(run.findings)
        self._began = time.monotonic()
        self._until = self._began + limit
        self._record = record
        self._progress = progress
        self._most = most_findings
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def supervise(self) -> Run:
        """To the end of the cases, of the time, or to an interrupt."""
        jobs = [threading.Thread(target=self._job, args=(share,)) for share in self.run.shares]
        for job in jobs:
            job.start()
        try:
            for job in jobs:
                while job.is_alive():
                    job.join(self._progress)
                    if job.is_alive():
                        self._say_progress()
        except KeyboardInterrupt:
            print("  stopping", file=sys.stderr, flush=True)
        finally:
            self._stop.set()
            for job in jobs:
                job.join()
        with self._lock:
            self._keep()
        return self.run

    def _say_progress(self) -> None:
        with self._lock:
            f, seconds = self.run.figures, time.monotonic() - self._began + self._before
            print(
                f"  {f.cases:,} cases after {seconds:.0f} s ({f.cases / seconds:,.0f}/s); {taken(f, self._make)}; "
                f"{len(self.run.findings)} findings",
                file=sys.stderr,
                flush=True,
            )

    def _keep(self) -> None:
        self.run.seconds = time.monotonic() - self._began + self._before
        if self._record is not None:
            save(self.run, self._record)

    def _found(self, finding: Finding) -> None:
        known = any((one.seed, one.case) == (finding.seed, finding.case) for one in self._resumed)
        if not known:  # a case whose figures were lost with the run before is run again
            self.run.findings.append(finding)
            if self._record is not None:
                keep(self.run, finding, self._record.parent)

    def _job(self, share: Share) -> None:
        fuzzer = self._make()
        killed = -1
        try:
            while share.next < share.last and len(self.run.findings) < self._most and not self._is_over():
                died = self._child(fuzzer, share)
                if died is None:
                    continue
                if died.what == _KILLED and died.case != killed:
                    killed = died.case  # no case can do that; somebody else may have: once more
                    continue
                with self._lock:
                    self._found(died)
                    self.run.figures.cases += 1
                    self.run.figures.outcomes[died.what.partition(":")[0]] += 1
                    share.next = died.case + 1
                    self._keep()
        finally:
            fuzzer.close()

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._until

    def _child(self, fuzzer: Fuzzer, share: Share) -> Finding | None:
        """One child. Returns the case at which it died, and how; None when it came to its end or was stopped."""
        with tempfile.NamedTemporaryFile() as shared:
            shared.write(bytes(STATE))
            shared.flush()
            mapped = mmap.mmap(shared.fileno(), STATE)
            state = memoryview(mapped).cast("Q")
            state[0], state[1] = share.next, time.monotonic_ns() + _START  # its start-up is not a hang
            command = [sys.executable, "-m", self._module, "--worker", shared.name, "--seed", str(share.seed)]
            command += ["--first", str(share.next), "--cases", str(share.last - share.next)]
            if self._until < math.inf:
                command += ["--minutes", str(max(0.0, self._until - time.monotonic()) / 60)]
            child = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
            )
            hung = threading.Event()
            done = threading.Event()
            watch = threading.Thread(target=self._watch, args=(child, state, fuzzer.hang, hung, done))
            watch.start()
            errors: list[str] = []
            drain = threading.Thread(target=lambda: errors.append(child.stderr.read() if child.stderr else ""))
            drain.start()
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    self._heard(json.loads(line), fuzzer, share)
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
        if code == 0 or (self._stop.is_set() and not hung.is_set()):
            return None
        with self._lock:
            self.run.figures.cases += number - share.next  # those since it last spoke
            share.next = number
        story = errors[0].strip()[-6000:] if errors else ""
        if hung.is_set():
            what = f"hang: more than {fuzzer.hang:.0f} s"
        else:
            what = f"crash: {signal.Signals(-code).name}" if code < 0 else f"crash: exit code {code}"
        return Finding(share.seed, number, what, story, fuzzer.data(number, source_of(share.seed, number)))

    def _watch(
        self,
        child: subprocess.Popen[str],
        state: memoryview,
        limit: float,
        hung: threading.Event,
        done: threading.Event,
    ) -> None:
        while not done.wait(0.5):
            if self._stop.is_set():
                child.kill()
                return
            if time.monotonic_ns() - state[1] > limit * 1e9:
                hung.set()
                child.send_signal(signal.SIGUSR1)  # it writes where it is
                done.wait(1.0)
                child.kill()
                return

    def _heard(self, line: dict[str, object], fuzzer: Fuzzer, share: Share) -> None:
        """Take in what a child said."""
        if "finding" in line:
            number, what = int(str(line["finding"])), str(line["what"])
            print(f"  seed {share.seed} case {number}: {what}", file=sys.stderr, flush=True)
            data = fuzzer.data(number, source_of(share.seed, number))
            with self._lock:
                self._found(Finding(share.seed, number, what, str(line["detail"]), data))
            return
        outcomes = line["outcomes"]
        assert isinstance(outcomes, dict)
        figures = Figures(
            int(str(line["cases"])),
            Counter({str(name): int(count) for name, count in outcomes.items()}),
            float(str(line["worst"])),
            (share.seed, int(str(line["worst_case"]))),
            float(str(line["peak_mb"])),
        )
        with self._lock:
            self.run.figures.add(figures)
            share.next = int(str(line["next"]))
            self._keep()


def supervise(make: type[Fuzzer], module: str, *, seed: int, cases: int, first: int = 0, jobs: int = 1) -> Run:
    """Run `cases` cases from number `first` on."""
    return Campaign(make, module, Run(make.name, shares_of(seed, cases, first, jobs))).supervise()


# --- the record


def save(run: Run, path: Path) -> None:
    """Written whole or not at all. Inputs of findings have files of their own."""
    f = run.figures
    document = {
        "fuzzer": run.fuzzer,
        "shares": [vars(share) for share in run.shares],
        "cases": f.cases,
        "outcomes": dict(f.outcomes),
        "worst": f.worst,
        "worstCase": f.worst_case,
        "peakMb": f.peak_mb,
        "seconds": run.seconds,
        "findings": [[one.seed, one.case, one.what, one.detail] for one in run.findings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def resumed(path: Path) -> Run:
    """What `save` kept. Cases whose figures had not been heard of will be run again."""
    document = json.loads(path.read_text(encoding="utf-8"))
    seed, number = document["worstCase"]
    figures = Figures(
        document["cases"], Counter(document["outcomes"]), document["worst"], (seed, number), document["peakMb"]
    )
    shares = [Share(**share) for share in document["shares"]]
    return Run(
        document["fuzzer"], shares, figures, [Finding(*one) for one in document["findings"]], document["seconds"]
    )


def keep(run: Run, finding: Finding, directory: Path) -> None:
    """Write a finding's input and story, for a person to look at."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / f"{run.fuzzer}-{finding.seed}-{finding.case}"
    again = f"python -m fuzz.{run.fuzzer} --seed {finding.seed} --first {finding.case} --cases 1 --here"
    stem.with_suffix(".txt").write_text(f"{finding.what}\n\n{again}\n\n{finding.detail}\n", encoding="utf-8")
    if finding.data is not None:
        stem.with_suffix(".wasm").write_bytes(finding.data)

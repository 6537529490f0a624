"""The command line that every fuzzer has: `python -m fuzz.decoder --help`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from fuzz.campaign import Campaign, Run, resumed, shares_of
from fuzz.harness import Fuzzer, source_of
from fuzz.worker import run_worker


def main(make: type[Fuzzer], module: str, about: str) -> int:
    """1 when there are findings, those of resumed runs included; 0 when there are none."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--cases", type=int, default=10_000, help="of all jobs together")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time, cases done or not")
    parser.add_argument("--seed", type=int, default=1, help="of the first job; the others have the next ones")
    parser.add_argument("--first", type=int, default=0, help="number of each seed's first case")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with a seed of its own")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="the record, and inputs with findings")
    parser.add_argument("--resume", action="store_true", help="go on with the record, under its seeds, to its number")
    parser.add_argument("--progress", type=float, default=30.0, help="seconds between two lines of progress")
    parser.add_argument("--here", action="store_true", help="run in this process, for a debugger; a finding is raised")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cases < 1 or args.jobs < 1 or args.first < 0:
        parser.error("--cases and --jobs are at least 1, --first is at least 0")
    if args.worker:
        return run_worker(make, args.worker, args.seed, args.first, args.cases, args.minutes * 60)
    if args.here:
        fuzzer = make()
        for number in range(args.first, args.first + args.cases):
            print(number, fuzzer.run(number, source_of(args.seed, number)))
        fuzzer.close()
        return 0
    record = args.out / f"{make.name}.json"
    if args.resume and record.exists():
        run = resumed(record)
        print(f"  going on after {run.figures.cases:,} cases", file=sys.stderr, flush=True)
    else:
        run = Run(make.name, shares_of(args.seed, args.cases, args.first, args.jobs))
    campaign = Campaign(make, module, run, limit=args.minutes * 60, record=record, progress=args.progress)
    campaign.supervise()
    print(run.report(make))
    if not run.done:
        print(f"not all cases were run: go on with --resume --out {args.out}")
    return 1 if run.findings else 0

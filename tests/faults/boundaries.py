"""The full boundary sweep from the command line, and its report: `make faults`."""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from faults.hosts import nursery
from faults.schedules import Setting
from faults.stores import HOMES, servers
from faults.sweep import KINDS, Sweep, Tally

_say = functools.partial(print, flush=True)


async def sweep(args: argparse.Namespace) -> Tally:
    with servers() as running:
        async with nursery() as hosts:
            made = Sweep(hosts, running, random.Random(args.seed), args.share, args.jobs, tuple(args.kinds), _say)
            for home in args.homes:
                for mode in args.modes:
                    await made.setting(Setting(home, mode, args.seed))
            _say(f"{hosts.started} host processes in {made.tally.seconds:.0f} s")
            return made.tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--homes", nargs="+", default=list(HOMES))
    parser.add_argument("--modes", nargs="+", default=["Invocation", "Effect"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PERDURE_FAULTS_SEED") or time.time_ns() % 10**6))
    parser.add_argument("--share", type=float, default=1.0, help="of the boundaries, chosen at random by the seed")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    _say(f"seed {args.seed}")
    tally = asyncio.run(sweep(args))
    for (home, mode, kind), runs in sorted(tally.runs.items()):
        _say(f"{home:9} {mode:11} {kind:6} {runs:6} schedules, {tally.faults[home, mode, kind]:6} faults")
    _say(f"{len(tally.boundaries)} boundaries, {tally.schedules} schedules, {tally.faults.total()} faults came about, {tally.missed} missed, {len(tally.wrong)} wrong")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""The whole suite of injected faults, and its report in docs/faults.md: `make faults`.

Every failing schedule is printed with the command that runs it again. The seed gives the scenario's values and, with
`--share`, the choice of boundaries.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from faults.hosts import Nursery, nursery
from faults.network import NetworkTally, network_sweep
from faults.report import report, write
from faults.schedules import Setting
from faults.stores import BESIDE, FOREIGN, GUESTS, HOMES, MEMORIES, Servers, servers
from faults.sweep import KINDS, RESTART, Sweep, Tally

PHASES = ("boundaries", "restarts", "network")
_say = functools.partial(print, flush=True)


def _settings(args: argparse.Namespace) -> list[Setting]:
    """Without a mode. Other foreign stores than Redis are at homes that share no server with them, and where memory
    goes on."""
    found = [
        Setting(home, "Invocation", args.seed, guest=guest, foreign=foreign, memory=memory)
        for memory in args.memory
        for guest in args.guests
        for foreign in args.foreign
        for home in args.homes
    ]
    return [
        setting
        for setting in found
        if setting.foreign == "redis" or (setting.home in BESIDE[setting.foreign] and setting.memory == "Instance")
    ]


async def boundaries(args: argparse.Namespace, hosts: Nursery, running: Servers, tally: Tally) -> None:
    """Hosts killed, killed again, and paused."""
    sweep = Sweep(hosts, running, random.Random(args.seed), args.share, args.jobs, tuple(args.kinds), _say, tally)
    for setting in _settings(args):
        for mode in args.modes:
            await sweep.setting(replace(setting, mode=mode))


async def restarts(args: argparse.Namespace, hosts: Nursery, running: Servers, tally: Tally) -> None:
    """Servers killed and started again; one schedule at a time, for they share the servers."""
    sweep = Sweep(hosts, running, random.Random(args.seed), args.share, 1, (RESTART,), _say, tally)
    for setting in _settings(args):
        if setting.home != "sqlite" or setting.foreign != "redis":
            await sweep.setting(setting)


async def network(args: argparse.Namespace, hosts: Nursery, running: Servers, tally: NetworkTally) -> None:
    """Requests and replies cut, swallowed, reset, late."""
    most = None if args.share == 1 else max(1, round(300 * args.share))
    for home in args.homes:
        if home != "sqlite":
            await network_sweep(home, hosts, running, args.seed, most=most, tally=tally, say=_say)
            _say(f"network, {home}: {tally.harms.total()} harms so far, {len(tally.wrong)} wrong")


@dataclass
class Found:
    """What was done so far, for a run that is cut short has a report, too."""

    tally: Tally = field(default_factory=Tally)
    harms: NetworkTally = field(default_factory=NetworkTally)
    started: int = 0


async def run(args: argparse.Namespace, found: Found) -> None:
    """Ends early, with everything it started, at SIGTERM and SIGINT."""
    task = asyncio.current_task()
    assert task is not None
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    with servers() as running:
        async with nursery() as hosts:
            try:
                if "boundaries" in args.only:
                    await boundaries(args, hosts, running, found.tally)
                if "restarts" in args.only:
                    await restarts(args, hosts, running, found.tally)
                if "network" in args.only:
                    await network(args, hosts, running, found.harms)
            finally:
                found.started = hosts.started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--homes", nargs="+", choices=HOMES, default=list(HOMES))
    parser.add_argument("--guests", nargs="+", choices=GUESTS, default=list(GUESTS), help="whose scenarios")
    parser.add_argument("--foreign", nargs="+", choices=FOREIGN, default=list(FOREIGN))
    parser.add_argument("--modes", nargs="+", choices=("Invocation", "Effect"), default=["Invocation", "Effect"])
    parser.add_argument("--memory", nargs="+", choices=MEMORIES, default=["Instance"], help="durability.memory")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--seed", type=int, default=int(os.environ.get("PERDURE_FAULTS_SEED") or time.time_ns() % 10**6)
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the boundaries, each stopped in one way only")
    parser.add_argument("--jobs", type=int, default=2, help="schedules at one time")
    parser.add_argument("--report", type=Path, help="the page whose last report is replaced")
    args = parser.parse_args()
    _say(f"PERDURE_FAULTS_SEED={args.seed}")
    begun, found, whole = time.monotonic(), Found(), True
    try:
        asyncio.run(run(args, found))
    except asyncio.CancelledError:
        whole = False
    lines = report(found.tally, found.harms, args, found.started, time.monotonic() - begun, whole=whole)
    _say("\n".join(lines))
    if args.report is not None:
        write(args.report, lines)
    return 1 if found.tally.wrong or found.harms.wrong or not whole else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs one schedule again: what a failing run prints. `python tests/faults/replay.py --home redis --mode Effect …`"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from faults.hosts import nursery
from faults.running import run_schedule
from faults.scenario import random_mix
from faults.schedules import Fault, Schedule, Setting
from faults.stores import FOREIGN, GUESTS, MEMORIES, servers


async def replay(schedule: Schedule, repeats: int, traced: bool, mix: bool) -> int:
    scenario = random_mix(schedule.setting.seed) if mix else None
    with servers() as running:
        async with nursery() as hosts:
            for _ in range(repeats):
                begun = time.monotonic()
                outcome = await run_schedule(schedule, hosts, running, traced=traced, scenario=scenario)
                print(
                    f"{outcome.wrong or 'as the model says'} ({outcome.came} faults came about, {time.monotonic() - begun:.2f} s)"
                )
                if traced:
                    print("the first host reached", *outcome.reached)
                    print("the second one, until its first answer,", *outcome.recovery)
                if outcome.wrong:
                    return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", default="redis")
    parser.add_argument("--mode", choices=("Invocation", "Effect"), default="Invocation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", default="")
    parser.add_argument("--guest", choices=GUESTS, default="ledger")
    parser.add_argument("--foreign", choices=FOREIGN, default="redis")
    parser.add_argument("--memory", choices=MEMORIES, default="Instance")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--mix", action="store_true", help="the random mix of the seed, not the scripted scenario")
    parser.add_argument("--trace", action="store_true", help="print what each host reached")
    parser.add_argument("fault", nargs="*", type=Fault.of, help="POINT:COUNT:HOW of the first host, the second one …")
    args = parser.parse_args()
    setting = Setting(args.home, args.mode, args.seed, args.mutant, args.guest, args.foreign, args.memory)
    return asyncio.run(replay(Schedule(setting, tuple(args.fault)), args.repeat, args.trace, args.mix))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs the scripts (`.wast`) of a suite on the component runtime: what passed, was refused, differs or failed.

    .ci/install-wasm-tools                    once
    python tests/component/wast.py --suite DIR [--output json] [--verbose]

Suites are not part of this repository: those of the component model's specification and of wasmtime are public.
Each script runs in a process of its own, so that one that dies is one failure. The exit code is 1 if a case failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.wast.runner import Case, run_script

SECONDS = 600
CACHE = Path(os.environ.get("PERDURE_CACHE") or Path.home() / ".cache" / "perdure")


def run_one(script: Path) -> list[Case]:
    """The script in a process of its own."""
    command = [sys.executable, __file__, "--script", str(script)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [Case(0, "script", "failed", f"the process ran for {SECONDS} s")]
    if done.returncode:
        return [Case(0, "script", "failed", f"the process died ({done.returncode}): {done.stderr.strip()[-500:]}")]
    return [Case(**case) for case in json.loads(done.stdout)]


def as_table(results: dict[str, list[Case]], *, verbose: bool) -> str:
    row = "{:64} {:>7} {:>8} {:>8} {:>7}".format
    lines = [row("script", "passed", "refused", "differs", "failed")]
    total: Counter[str] = Counter()
    for name, cases in results.items():
        counts = Counter(case.status for case in cases)
        total += counts
        lines.append(row(name[-64:], *(counts[status] for status in ("passed", "refused", "differs", "failed"))))
        for status in ("refused", "differs"):
            for reason, count in Counter(case.detail for case in cases if case.status == status).most_common():
                lines.append(f"    {status} {count:4}: {reason}")
        shown = [case for case in cases if case.status == "failed"]
        lines += [
            f"    FAILED line {case.line} ({case.kind}): {case.detail[:200]}"
            for case in (shown if verbose else shown[:3])
        ]
    lines.append(row("total", *(total[status] for status in ("passed", "refused", "differs", "failed"))))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--suite", type=Path, help="a folder of scripts, searched through, or one script")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--verbose", action="store_true", help="every failure, not the first three of a script")
    parser.add_argument("--wasm-tools", type=Path, default=CACHE / "bin" / "wasm-tools")
    parser.add_argument("--script", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.script is not None:
        with tempfile.TemporaryDirectory() as folder:
            cases = asyncio.run(run_script(options.wasm_tools, options.script.resolve(), Path(folder)))
        print(json.dumps([asdict(case) for case in cases]))
        return 0
    if options.suite is None:
        parser.error("--suite is missing")
    if not options.wasm_tools.exists():
        parser.error(f"{options.wasm_tools} is missing: run .ci/install-wasm-tools")
    root = options.suite if options.suite.is_dir() else options.suite.parent
    scripts = sorted(options.suite.rglob("*.wast")) if options.suite.is_dir() else [options.suite]
    results = {}
    for script in scripts:
        results[str(script.relative_to(root))] = run_one(script)
        if options.output == "table" and sys.stderr.isatty():
            print(script, file=sys.stderr)
    if options.output == "json":
        print(json.dumps({name: [asdict(case) for case in cases] for name, cases in results.items()}, indent=1))
    else:
        print(as_table(results, verbose=options.verbose))
    return int(any(case.status == "failed" for cases in results.values() for case in cases))


if __name__ == "__main__":
    sys.exit(main())

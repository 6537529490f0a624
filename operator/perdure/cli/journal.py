"""`perdure journal`: what an instance did, entry by entry."""

from __future__ import annotations

import argparse
import json
import sys

from perdure.cli.client import Client, add_output, add_url, client, misused, quote

_PAGE = 100
_WAIT = 30
_EPILOG = """\
Each line is one commit: its sequence number, time and kind, the function with its arguments and result (their size
where they are large), the bytes it takes and how long the guest ran. Kinds: `call` ends a call; `part` is a gate
within one; `abandoned` ends one that was given up; `fresh` and `migrated` begin the instance anew. Entries before
the last snapshot are gone: the snapshot stands for them, and standard error says which.

examples:
  perdure journal demo
  perdure journal demo --after 120 --follow      entries from 121 on, and those to come
  perdure journal demo --output json             one JSON object a line, with events and effects
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "journal",
        help="show what an instance did",
        description="Print an instance's journal: what recovery would replay after its snapshot.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instance", metavar="INSTANCE")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="only entries after this sequence number")
    parser.add_argument("--follow", action="store_true", help="go on with entries as they come, until interrupted")
    add_url(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.after < 0:
        return misused("journal --after: must not be negative")
    api, after = client(args.url), args.after
    while True:
        document = _page(api, args.instance, after, _WAIT if args.follow else 0)
        entries, following, sequence = document["entries"], document["next"], document["sequence"]
        assert isinstance(entries, list) and isinstance(following, int) and isinstance(sequence, int)
        for entry in entries:
            _say_gone(after, int(entry["sequence"]) - 1)
            after = int(entry["sequence"])
            print(json.dumps(entry) if args.output == "json" else line(entry), flush=True)
        _say_gone(after, following)
        if not args.follow and (not entries or following >= sequence):
            return 0
        # An instance that was deleted and began anew has fewer entries than were seen.
        after = following


def _say_gone(after: int, last: int) -> None:
    """That those between are not there any more; beside what scripts read."""
    if last > after:
        entries = f"entry {last} is" if last == after + 1 else f"entries {after + 1} to {last} are"
        print(f"{entries} not in the journal any more", file=sys.stderr, flush=True)


def _page(api: Client, instance: str, after: int, wait: int) -> dict[str, object]:
    return api.get(f"/v1/instances/{quote(instance)}/journal?after={after}&limit={_PAGE}&wait={wait}")


def line(entry: dict[str, object]) -> str:
    """An entry for people."""
    sequence = f"{entry['sequence']:>8}"
    if "kind" not in entry:
        return f"{sequence}  UNREADABLE: {entry.get('problem')} ({entry['bytes']} bytes)"
    told = [sequence, str(entry["time"]), f"{entry['kind']:<9}"]
    if "function" in entry:
        told.append(f"{entry['function']}{_value(entry.get('arguments', '…'))}{_ending(entry)}")
    if entry.get("key") is not None:
        told.append(f"key={entry['key']}")
    gate = entry.get("gate")
    if isinstance(gate, dict):
        outcomes = entry.get("outcomes")
        last = outcomes[-1] if isinstance(outcomes, list) and outcomes else "in another store"
        told.append(f"at {gate['call']} ({last})")
    told += [str(entry[name]) for name in ("reason", "problem") if entry.get(name)]
    told.append(f"{_size(entry)} B, {entry['guestMicroseconds']} µs")
    return "  ".join(told)


def _ending(entry: dict[str, object]) -> str:
    if "result" in entry:
        return f" -> {_value(entry['result'])}"
    failure = entry.get("failure")
    return f" -> failed: {failure['code']}" if isinstance(failure, dict) else ""


def _size(entry: dict[str, object]) -> int:
    return sum(int(str(entry.get(name, 0))) for name in ("bytes", "payloadBytes"))


def _value(value: object) -> str:
    if isinstance(value, dict):
        return f"[{value['bytes']} bytes, sha256 {str(value['sha256'])[:12]}…]"
    return str(value)

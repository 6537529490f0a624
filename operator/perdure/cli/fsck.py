"""`perdure fsck`: whether what is stored of instances is sound, and which entry is the first bad one."""

from __future__ import annotations

import argparse
import json
import urllib.parse

from perdure.cli.client import Client, add_output, add_url, client, quote

_EPILOG = """\
Checked are checksums of entries, payloads and snapshots, gaps in the sequence, the order of calls and their parts,
effects that are still to be applied to other stores, calls that wait, and whether hosts would find them: an instance
that the index of what is due has lost is put right by `perdure resume NAME`. Nothing is changed. A finding on an
instance that works while it is looked at may be of the moment: look again. One that has committed nothing yet is
checked by its name only.

A damaged instance is quarantined when it is next recovered; `perdure reset NAME` gives it fresh memory and keeps its
buckets, results and waiting calls.

examples:
  perdure fsck                 all instances of the Worker
  perdure fsck demo            one
  perdure fsck --output json   a JSON object for each unsound instance
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "fsck",
        help="check what is stored of instances",
        description="Check what is stored of one instance, or of all. Exit code 1: something is wrong; the first bad "
        "entry is named.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instance", metavar="INSTANCE", nargs="?", help="check this one only")
    add_url(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    api = client(args.url)
    if args.instance is not None:
        found = api.get(f"/v1/instances/{quote(args.instance)}/check")
        if args.output == "json":
            print(json.dumps(found))
        elif found["sound"]:
            print(f"{found['name']} is sound at sequence {found['sequence']}")
        else:
            _tell(found)
        return 0 if found["sound"] else 1
    return _all(api, args.output)


def _all(api: Client, output: str) -> int:
    checked, unsound, cursor = 0, 0, ""
    while True:
        page = api.get(f"/v1/check?limit=100{cursor}")
        bad, number = page["unsound"], page["checked"]
        assert isinstance(bad, list) and isinstance(number, int)
        checked, unsound = checked + number, unsound + len(bad)
        for found in bad:
            if output == "json":
                print(json.dumps(found))
            else:
                _tell(found)
        if page["cursor"] is None:
            break
        cursor = "&cursor=" + urllib.parse.quote(str(page["cursor"]), safe="")
    if output != "json":
        print(f"{checked} instances checked, {unsound} with findings")
    return 1 if unsound else 0


def _tell(found: dict[str, object]) -> None:
    findings = found["findings"]
    assert isinstance(findings, list)
    for finding in findings:
        print(f"{found['name']}: {finding['detail']} [{finding['code']}]")

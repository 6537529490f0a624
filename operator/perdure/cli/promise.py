"""`perdure promise`: look at a promise, or complete it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from perdure.cli.client import add_output, add_url, client, quote, show

_EPILOG = """\
A guest makes a promise (perdure:durable/promises.create), tells its id to whoever shall keep it, and waits. The first
completion counts: the same again is fine, another one is refused.

examples:
  perdure promise ID                        pending, completed or failed
  perdure promise ID --complete approved    the guest gets these bytes
  perdure promise ID --complete-file -      the same, from standard input
  perdure promise ID --fail 'not in stock'  the guest gets an error with this text
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "promise",
        help="look at a promise, or complete it",
        description="Show a promise that a guest waits for, or complete it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("promise", metavar="ID")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--complete", metavar="TEXT", help="complete it with this text")
    how.add_argument("--complete-file", metavar="FILE", help="complete it with a file's bytes; - is standard input")
    how.add_argument("--fail", metavar="TEXT", help="complete it with a failure")
    add_url(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    api, path = client(args.url), f"/v1/promises/{quote(args.promise)}"
    if args.fail is not None:
        document = api.document("POST", f"{path}/failure", args.fail.encode(), again=True)
    elif args.complete is not None or args.complete_file is not None:
        try:
            body = _body(args)
        except OSError as error:
            print(f"perdure promise --complete-file: {error}", file=sys.stderr)
            return 1
        document = api.document("POST", path, body, again=True)
    else:
        document = api.get(path)
    if args.output == "json":
        print(json.dumps(document))
    else:
        show(document)
    return 0


def _body(args: argparse.Namespace) -> bytes:
    if args.complete is not None:
        return str(args.complete).encode()
    return sys.stdin.buffer.read() if args.complete_file == "-" else Path(args.complete_file).read_bytes()

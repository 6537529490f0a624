"""`perdure invocation`: what became of an asynchronous call, which calls wait, and taking one back."""

from __future__ import annotations

import argparse
import json
import sys

from perdure.cli.client import Client, add_output, add_url, client, misused, quote, show

_WAIT = 30
_EPILOG = """\
examples:
  perdure invocation demo                        the calls that wait, in the order in which they will be taken
  perdure invocation demo order-17               pending, running, succeeded or failed
  perdure invocation demo order-17 --wait        wait until it has ended, and print its result
  perdure invocation demo order-17 --cancel      take it back, if nothing of it is durable yet

A pending call that says `blocked` waits for somebody: its instance is quarantined or interrupted. `perdure resume`
lets it go on, `perdure skip` gives up the call that quarantined it.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "invocation",
        help="look at asynchronous calls, or cancel one",
        description="Show what became of an asynchronous call, or list the calls that wait for an instance. With "
        "--wait the exit code is 0 if the call succeeded and 1 if it failed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instance", metavar="INSTANCE")
    parser.add_argument("key", metavar="KEY", nargs="?", help="the call's idempotency key")
    parser.add_argument("--wait", action="store_true", help="wait until the call has ended, and print its result")
    parser.add_argument("--cancel", action="store_true", help="take the call back")
    add_url(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    api = client(args.url)
    if args.key is None:
        if args.wait or args.cancel:
            return misused(f"invocation --{'cancel' if args.cancel else 'wait'}: name the call by its KEY")
        return _list(api, args)
    path = _path(args.instance, args.key)
    if args.cancel:
        document = api.document("DELETE", path)
    elif args.wait:
        return outcome(follow(api, args.instance, args.key))
    else:
        document = api.get(path)
    if args.output == "json":
        print(json.dumps(document))
    else:
        show(document)
    return 0


def follow(api: Client, instance: str, key: str) -> dict[str, object]:
    """The call when it has ended, however long that takes."""
    path = _path(instance, key)
    while True:
        document = api.get(path, headers={"Prefer": f"wait={_WAIT}"})
        if document["state"] in ("succeeded", "failed"):
            return document


def outcome(document: dict[str, object]) -> int:
    """Print the result, or say on standard error why there is none."""
    if document["state"] == "succeeded":
        print(json.dumps(document["result"]))
        return 0
    failure = document.get("failure")
    found = failure if isinstance(failure, dict) else {}
    print(f"perdure: {found.get('detail', 'the call failed')} [{found.get('code', 'call-failed')}]", file=sys.stderr)
    return 1


def _list(api: Client, args: argparse.Namespace) -> int:
    found = api.get(f"/v1/instances/{quote(args.instance)}/invocations?limit=1000")["invocations"]
    assert isinstance(found, list)
    for call in found:
        if args.output == "json":
            print(json.dumps(call))
        else:
            print(
                f"{call['due']}  {call['state']:<8}  {call['attempts']:>3} attempts  {call['key']}  {call['function']}"
            )
    return 0


def _path(instance: str, key: str) -> str:
    return f"/v1/instances/{quote(instance)}/invocations/{quote(key)}"

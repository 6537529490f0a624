"""`perdure invoke`: call a function on an instance, always under an idempotency key."""

from __future__ import annotations

import argparse
import json
import uuid

from perdure.cli.client import Client, add_url, client, misused, quote
from perdure.cli.invocation import follow, outcome

_EPILOG = """\
Each argument is JSON. What is not JSON is taken as a string, so `alice` and `"alice"` are the same;
write '"42"' for the string 42. list<u8> is a base64 string or an array of numbers.

examples:
  perdure invoke demo get '"shop"' '"colour"'
  perdure invoke demo golem:examples/api.set shop colour '[98, 108, 117, 101]'
  perdure invoke --key order-17 --url http://carts.default.svc demo set shop colour Ymx1ZQ==
  perdure invoke --async demo set shop colour Ymx1ZQ==         accepted; runs even if every host dies
  perdure invoke --at 2030-01-31T09:00:00Z demo set shop colour Ymx1ZQ==
  perdure invoke --async --wait demo get shop colour           accepted, then its result

The call is retried under the same key when the host is busy or not reachable: it is carried out once. With --async
the key is printed; `perdure invocation demo KEY` tells what became of the call, and takes it back with --cancel.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "invoke",
        help="call a function on an instance",
        description="Call an exported function on an instance and print the result as JSON.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instance", metavar="INSTANCE", help="the instance's name; its first call creates it")
    parser.add_argument("function", metavar="FUNCTION", help="e.g. golem:examples/api.set, or set")
    parser.add_argument("arguments", metavar="JSON", nargs="*", help="positional arguments")
    parser.add_argument("--key", help="the idempotency key (default: a random one)")
    parser.add_argument(
        "--async",
        action="store_true",
        dest="asynchronous",
        help="return as soon as the call is accepted durably, and print what is known of it as JSON",
    )
    parser.add_argument("--at", metavar="TIME", help="as --async, and run the call then (RFC 3339, with an offset)")
    parser.add_argument("--wait", action="store_true", help="with --async or --at: wait for the result, and print it")
    add_url(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    body = json.dumps([_argument(text) for text in args.arguments]).encode()
    path = f"/v1/instances/{quote(args.instance)}/functions/{quote(args.function)}"
    if args.key == "":
        return misused("invoke --key: must not be empty; without it the call gets a key of its own")
    api, key = client(args.url), args.key or str(uuid.uuid4())
    if args.asynchronous or args.at is not None:
        return _accepted(api, args, path, body, key)
    if args.wait:
        return misused("invoke --wait: a call without --async or --at is waited for anyway")
    print(api.request("POST", path, body, key=key).decode())
    return 0


def _accepted(api: Client, args: argparse.Namespace, path: str, body: bytes, key: str) -> int:
    headers = {"Prefer": "respond-async"}
    if args.at is not None:
        headers["Perdure-Schedule-At"] = args.at
    document = api.document("POST", path, body, key=key, headers=headers)
    if args.wait:
        return outcome(follow(api, args.instance, key))
    print(json.dumps(document))
    return 0


def _argument(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text

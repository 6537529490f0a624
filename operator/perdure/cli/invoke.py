"""`perdure invoke`: call a function on an instance, always under an idempotency key."""

from __future__ import annotations

import argparse
import json
import uuid

from perdure.cli.client import client, quote

_EPILOG = """\
Each argument is JSON. What is not JSON is taken as a string, so `alice` and `"alice"` are the same;
write '"42"' for the string 42. list<u8> is a base64 string or an array of numbers.

examples:
  perdure invoke demo get '"shop"' '"colour"'
  perdure invoke demo golem:examples/api.set shop colour '[98, 108, 117, 101]'
  perdure invoke --key order-17 --url http://carts.default.svc demo set shop colour Ymx1ZQ==

The call is retried under the same key when the host is busy or not reachable: it is carried out once.
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
    parser.add_argument("--url", help="the Worker's address (default: $PERDURE_URL, then http://127.0.0.1:8080)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    body = json.dumps([_argument(text) for text in args.arguments]).encode()
    path = f"/v1/instances/{quote(args.instance)}/functions/{quote(args.function)}"
    print(client(args.url).request("POST", path, body, key=args.key or str(uuid.uuid4())).decode())
    return 0


def _argument(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text

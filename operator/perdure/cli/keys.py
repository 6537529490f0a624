"""`perdure keys`: list, read, set and delete keys of a Worker's buckets."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from perdure.cli.client import Client, add_output, add_url, client, misused, quote

_PAGE = 1000
_EPILOG = """\
Buckets are named as guests open them. One of scope Instance belongs to an instance each: say which with --instance.
What the manifest says of a bucket (access, ttl, maxKeys, …) holds here as for guests. Calls that are under way see a
change from their next read on.

examples:
  perdure keys list carts                          all keys, in byte order
  perdure keys list carts --prefix eu/ --limit 20  the first of those that begin so
  perdure keys list carts --after eu/0420          and those behind this one
  perdure keys get carts eu/0420                   the value's bytes
  perdure keys set carts eu/0420 '{"items": []}'   or --file FILE, --file - for standard input
  perdure keys set carts lock me --new             only if there is no such key
  perdure keys delete carts eu/0420 eu/0421
  perdure keys list drafts --instance alice
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "keys",
        help="list, read, set and delete keys of a bucket",
        description="Look into a bucket of the Worker, or change it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="what to do", metavar="ACTION", required=True)
    listing = _action(actions, "list", "print the keys, one a line", _list)
    listing.add_argument("--prefix", default="", help="only those that begin so")
    listing.add_argument("--after", metavar="KEY", help="only those behind this one, in byte order")
    listing.add_argument("--limit", type=int, metavar="N", help="stop after so many")
    add_output(listing)
    get = _action(actions, "get", "print a value", _get)
    get.add_argument("key", metavar="KEY")
    add_output(get)
    put = _action(actions, "set", "set a key", _set)
    put.add_argument("key", metavar="KEY")
    put.add_argument("value", metavar="TEXT", nargs="?", help="the value, as text")
    put.add_argument("--file", metavar="FILE", help="the value is a file's bytes; - is standard input")
    put.add_argument("--new", action="store_true", help="only if there is no such key")
    delete = _action(actions, "delete", "delete keys; those that are missing are fine", _delete)
    delete.add_argument("keys", metavar="KEY", nargs="+")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("--instance", metavar="NAME", help="whose bucket, of scope Instance")
    add_url(parser)
    parser.set_defaults(run=run)
    return parser


def _list(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        return misused("keys list --limit: must be at least 1")
    api, cursor, left = client(args.url), args.after, args.limit
    while True:
        page = _page(api, args, cursor, _PAGE if left is None else min(left, _PAGE))
        found = page["keys"]
        assert isinstance(found, list)
        for key in found:
            # A key may have any characters; each is one line.
            print(json.dumps(key) if args.output == "json" or not key.isprintable() else key)
        left = None if left is None else left - len(found)
        if page["cursor"] is None or left == 0:
            return 0
        cursor = str(page["cursor"])


def _page(api: Client, args: argparse.Namespace, cursor: str | None, limit: int) -> dict[str, object]:
    asked = {"limit": limit, "prefix": args.prefix or None, "cursor": cursor, "instance": args.instance}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return api.get(f"/v1/buckets/{quote(args.bucket)}/keys?{query}")


def _get(args: argparse.Namespace) -> int:
    value = client(args.url).request("GET", _path(args, args.key))
    if args.output == "json":
        document = {"key": args.key, "bytes": len(value), "base64": base64.b64encode(value).decode()}
        print(json.dumps(document))
    else:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
    return 0


def _set(args: argparse.Namespace) -> int:
    if (args.value is None) == (args.file is None):
        return misused("keys set: give the value as TEXT or with --file")
    try:
        body = _body(args)
    except OSError as error:
        print(f"perdure keys set --file: {error}", file=sys.stderr)
        return 1
    headers = {"Content-Type": "application/octet-stream"} | ({"If-None-Match": "*"} if args.new else {})
    # Sent again, a new key would be found there.
    client(args.url).request("PUT", _path(args, args.key), body, headers=headers, again=not args.new)
    return 0


def _delete(args: argparse.Namespace) -> int:
    api = client(args.url)
    for key in args.keys:
        api.request("DELETE", _path(args, key), again=True)
    return 0


def _path(args: argparse.Namespace, key: str) -> str:
    which = "" if args.instance is None else f"?instance={quote(args.instance)}"
    return f"/v1/buckets/{quote(args.bucket)}/keys/{quote(key)}{which}"


def _body(args: argparse.Namespace) -> bytes:
    if args.file is None:
        return str(args.value).encode()
    return sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()

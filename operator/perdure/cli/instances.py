"""`perdure instances`: list a Worker's instances, look at one, or delete one."""

from __future__ import annotations

import argparse
import json
import urllib.parse

from perdure.cli.client import add_output, add_url, client, misused, quote, show


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "instances",
        help="list instances, show or delete one",
        description="List the Worker's instances in byte order, or show (or delete) one of them.",
    )
    parser.add_argument("instance", metavar="INSTANCE", nargs="?", help="show this one only")
    parser.add_argument("--delete", action="store_true", help="delete INSTANCE: memory, journal, private buckets")
    add_url(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    api = client(args.url)
    if args.instance is None:
        if args.delete:
            return misused("instances --delete: name the instance to delete")
        cursor = ""
        while True:
            document = api.get(f"/v1/instances?limit=1000{cursor}")
            names = document["instances"]
            assert isinstance(names, list)
            for name in names:
                print(json.dumps(name) if args.output == "json" else name)
            if document["cursor"] is None:
                return 0
            cursor = "&cursor=" + urllib.parse.quote(str(document["cursor"]), safe="")
    path = f"/v1/instances/{quote(args.instance)}"
    if args.delete:
        api.request("DELETE", path)
        return 0
    document = api.get(path)
    if args.output == "json":
        print(json.dumps(document))
    else:
        show(document)
    return 0

"""`perdure interrupt`, `resume`, `skip`, `reset`, `snapshot`: what an operator does with an instance."""

from __future__ import annotations

import argparse
import json

from perdure.cli.client import add_output, add_url, client, quote

_VERBS = {
    "interrupt": "stop an instance, and let it take no more calls",
    "resume": "let an interrupted or quarantined instance run again",
    "skip": "give up the call that quarantined an instance",
    "reset": "give an instance fresh memory",
    "snapshot": "take a snapshot of an instance now",
}
_DESCRIPTIONS = {
    "interrupt": """
Stop an instance now and let it take no more calls until it is resumed. What runs on it is cut off at its last durable
point: nothing that was acknowledged is lost. Calls that were accepted asynchronously wait.""",
    "resume": """
Let an interrupted or quarantined instance run again. What quarantined it is tried once more: mend that first.""",
    "skip": """
Give up the asynchronous call that quarantined an instance, or the call that has not ended, and let the instance go on.
The call's result is a failure with the code `skipped`, and its key is used.""",
    "reset": """
Give an instance fresh memory on the present component. Its buckets, stored results and waiting calls stay. For an
instance whose journal or snapshot cannot be replayed.""",
    "snapshot": """
Take a snapshot of an instance's memory now and trim its journal, so that its next recovery is quick. Snapshots are
taken by themselves as spec.durability says; this is for before a maintenance.""",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for verb, summary in _VERBS.items():
        parser = subparsers.add_parser(verb, help=summary, description=_DESCRIPTIONS[verb])
        parser.add_argument("instance", metavar="INSTANCE")
        add_url(parser)
        add_output(parser)
        parser.set_defaults(run=run, verb=verb)


def run(args: argparse.Namespace) -> int:
    path = f"/v1/instances/{quote(args.instance)}/{args.verb}"
    # A skip that was carried out twice would give up two calls.
    document = client(args.url).document("POST", path, again=args.verb != "skip")
    if args.output == "json":
        print(json.dumps(document))
    else:
        pending = f", {document['pending']} calls wait" if document["pending"] else ""
        print(f"{document['name']}: {document['state']} at sequence {document['sequence']}{pending}")
    return 0

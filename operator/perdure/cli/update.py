"""`perdure update --dry-run`: what would become of existing instances."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from urllib.parse import urlencode

from perdure.cli.client import add_output, add_url, client, misused
from perdure.errors import BadRequest

_EPILOG = """\
A Worker is updated by applying its manifest with another component; spec.update says what becomes of its instances:
Restart (fresh memory, buckets stay), Pin (they stay on their component) or Migrate (the guest hands its state over).

examples:
  perdure update --dry-run                                     which components instances run on now
  perdure update --dry-run --component new.wasm                what would happen if this one ran
  perdure update --dry-run --component new.wasm --policy Pin   and under another policy
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "update",
        help="what an update would do to existing instances",
        description="Tell how many instances run on which component, and what an update would do to them. Nothing is "
        "changed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="required: the update itself is `kubectl apply`")
    parser.add_argument("--component", metavar="FILE.wasm|sha256:…", help="the one to come (default: the present)")
    parser.add_argument("--policy", choices=("Restart", "Pin", "Migrate"), help="default: the Worker's spec.update")
    add_url(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not args.dry_run:
        return misused("update: a Worker is updated by applying its manifest; see --dry-run")
    asked = {}
    if args.component is not None:
        asked["component"] = _digest(args.component)
    if args.policy is not None:
        asked["policy"] = args.policy
    document = client(args.url).get(f"/v1/update?{urlencode(asked)}")
    if args.output == "json":
        print(json.dumps(document))
        return 0
    print(f"component {document['component']}, update: {document['policy']}")
    components = document["components"]
    assert isinstance(components, list)
    for found in components:
        print(
            f"{found['instances']:>8} on {found['component'] or 'none yet'}: {found['action']}: {found['description']}"
        )
    if not components:
        print("there are no instances")
    return 0


def _digest(given: str) -> str:
    if given.startswith("sha256:"):
        return given
    try:
        return "sha256:" + hashlib.sha256(Path(given).read_bytes()).hexdigest()
    except OSError as error:
        raise BadRequest(f"--component {given} cannot be read: {error.strerror}") from error

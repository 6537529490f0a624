"""`perdure purge`: delete all data of a Worker. The operator runs it as a Job for `deletionPolicy: Delete`, and with
`--watches-only` for `Retain`."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from perdure.cli.hosting import SECRETS, add_logging, host_config
from perdure.host.logs import configure_logging
from perdure.host.purge import end_watches, purge_worker

log = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "purge",
        help="delete all data of a Worker",
        description="Delete a Worker's instances, journals, results and buckets at every provider it uses. "
        "Buckets of scope Namespace are shared with other Workers and stay; its watches of them end.",
    )
    parser.add_argument(
        "--watches-only",
        action="store_true",
        help="keep all data, and end its watches of buckets of scope Namespace: they would fill, and others be refused",
    )
    parser.add_argument("--manifest", type=Path, required=True, help="the Worker and the KeyValueProviders it uses")
    parser.add_argument("--worker", metavar="NAMESPACE/NAME", help="which Worker of the manifest")
    parser.add_argument("--data", default="/var/lib/perdure", metavar="DIR", help="SQLite files (default: %(default)s)")
    parser.add_argument("--secrets", default=str(SECRETS), metavar="DIR", help="mounted Secrets (default: %(default)s)")
    add_logging(parser)
    parser.set_defaults(run=run, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", grace=0.0)


def run(args: argparse.Namespace) -> int:
    configure_logging(args.log_format, args.log_level)
    config = host_config(args, manifest=args.manifest, local=False)
    fields: dict[str, object] = {"worker": config.worker.name}
    if args.watches_only:
        ended = asyncio.run(
            end_watches(config, lambda name, bucket: log.info("%s: bucket %r watched no more", name, bucket))
        )
        log.info("watches ended", extra={"fields": {**fields, "ended": ended}})
        return 0
    removed = asyncio.run(purge_worker(config, lambda name, count: log.info("%s: %d removed", name, count)))
    log.info("purged", extra={"fields": {**fields, "removed": removed}})
    return 0

"""`perdure purge`: delete all data of a Worker. The operator runs it as a Job for `deletionPolicy: Delete`."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from perdure.cli.hosting import SECRETS, add_logging, host_config
from perdure.host.logs import configure_logging
from perdure.host.purge import purge_worker

log = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "purge",
        help="delete all data of a Worker",
        description="Delete a Worker's instances, journals, results and buckets at every provider it uses. "
        "Buckets of scope Namespace are shared with other Workers and stay.",
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
    removed = asyncio.run(purge_worker(config, lambda name, count: log.info("%s: %d removed", name, count)))
    log.info("purged", extra={"fields": {"worker": config.worker.name, "removed": removed}})
    return 0

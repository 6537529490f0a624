"""`perdure host`: the process in a Worker's pod."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from perdure.cli.hosting import SECRETS, add_listen, add_logging, host_config
from perdure.host.logs import configure_logging
from perdure.host.main import serve

log = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "host",
        help="run the host of one Worker (in its pod)",
        description="Run the host of one Worker. The operator starts it in the Worker's pods; see `perdure run` "
        "for a laptop.",
    )
    parser.add_argument("--manifest", type=Path, required=True, help="the Worker and the KeyValueProviders it uses")
    parser.add_argument("--worker", metavar="NAMESPACE/NAME", help="which Worker of the manifest")
    parser.add_argument("--component-file", metavar="FILE", help="the component, where it is mounted")
    parser.add_argument("--component-digest", metavar="sha256:…", help="refuse any other component")
    parser.add_argument("--data", default="/var/lib/perdure", metavar="DIR", help="SQLite files (default: %(default)s)")
    parser.add_argument("--cache", default="/var/cache/perdure", metavar="DIR", help="compiled code")
    parser.add_argument("--secrets", default=str(SECRETS), metavar="DIR", help="mounted Secrets (default: %(default)s)")
    parser.add_argument("--grace", type=float, default=25.0, help="seconds that running calls get on SIGTERM")
    parser.add_argument("--insecure-registry", action="append", metavar="HOST:PORT", help="plain HTTP to this one")
    add_listen(parser, "0.0.0.0:8080", "0.0.0.0:9090")
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    configure_logging(args.log_format, args.log_level)
    config = host_config(args, manifest=args.manifest, local=False)
    fields = {"worker": f"{config.worker.namespace}/{config.worker.name}", "host": config.host}
    log.info("starting", extra={"fields": fields})
    return serve(
        config,
        progress=log.info,
        ready=lambda host: log.info("ready", extra={"fields": {**fields, "url": host.url}}),
    )

"""`perdure run`: the host on a laptop, with SQLite where no provider is named."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perdure.cli.hosting import add_listen, add_logging, host_config
from perdure.host.app import RunningHost
from perdure.host.logs import configure_logging
from perdure.host.main import serve

_EPILOG = """\
examples:
  perdure run key-value.wasm                 a bare component: any bucket, kept in .perdure/local.sqlite
  perdure run worker.yaml                    the same manifests as in a cluster (component: url: file:...)
  perdure run worker.yaml --listen 127.0.0.1:9000 --data /var/lib/carts

then, in another terminal:
  perdure invoke demo set shop colour '"Ymx1ZQ=="'
  curl -X POST http://127.0.0.1:8080/v1/instances/demo/functions/get -d '["shop", "colour"]'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "run",
        help="run a component or a manifest here",
        description="Run a Worker on this machine: the same host and the same manifests as in a cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="FILE.wasm (a component) or FILE.yaml (manifests)")
    parser.add_argument("--worker", metavar="NAME", help="which Worker, where the file has several")
    parser.add_argument("--data", default=".perdure", metavar="DIR", help="where data lives (default: %(default)s)")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds that running calls get at the end")
    parser.add_argument("--insecure-registry", action="append", metavar="HOST:PORT", help="plain HTTP to this one")
    add_listen(parser, "127.0.0.1:8080", "127.0.0.1:9090")
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    configure_logging(args.log_format, args.log_level)
    config = host_config(args, manifest=args.file, local=True)
    providers = ", ".join(f"{found.name} ({found.spec.kind})" for found in config.effective.providers)
    _say(f"{config.worker.name}: starting, data in {config.data}, provider {providers}")
    return serve(config, progress=_say, ready=lambda host: _ready(config.worker.name, host))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ready(name: str, host: RunningHost) -> None:
    functions = ", ".join(func.path for func in host.component.exports) or "none"
    _say(f"{name}: ready at {host.url} (metrics at {host.metrics_url}/metrics)")
    _say(f"{name}: functions {functions}")

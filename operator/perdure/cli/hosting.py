"""Options that `perdure run`, `perdure host` and `perdure purge` share, and what they become."""

from __future__ import annotations

import argparse
import os
import re
import socket
from pathlib import Path

from perdure.errors import ManifestError
from perdure.host.config import HostConfig, effective_from_file, parse_address
from perdure.manifests.worker import EnvVar

SECRETS = Path("/etc/perdure/secrets")
_ENV_PREFIX = "PERDURE_GUEST_"


def add_listen(parser: argparse.ArgumentParser, api: str, metrics: str) -> None:
    parser.add_argument("--listen", default=api, metavar="ADDRESS", help="the HTTP API (default: %(default)s)")
    parser.add_argument(
        "--metrics-listen",
        default=metrics,
        metavar="ADDRESS",
        help="/metrics, /healthz and /readyz (default: %(default)s)",
    )


def add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-format", choices=("auto", "json", "text"), default="auto", help="auto: text on a terminal"
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def host_config(args: argparse.Namespace, *, manifest: Path, local: bool) -> HostConfig:
    """The configuration for these options. Raises `ManifestError`."""
    effective = effective_from_file(manifest, worker=args.worker, local=local)
    listen = parse_address(args.listen, option="--listen")
    host = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    pod_ip = os.environ.get("POD_IP", "")
    shown = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
    data = Path(args.data)
    return HostConfig(
        host=host,
        effective=effective,
        listen=listen,
        metrics_listen=parse_address(args.metrics_listen, option="--metrics-listen"),
        advertise=f"http://{shown}:{listen[1]}" if pod_ip else "",
        data=data,
        secrets=Path(getattr(args, "secrets", SECRETS)),
        base=manifest.resolve().parent,
        cache=Path(args.cache) if getattr(args, "cache", None) else data / "cache",
        component_file=Path(args.component_file) if getattr(args, "component_file", None) else None,
        component_digest=getattr(args, "component_digest", None),
        insecure_registries=tuple(getattr(args, "insecure_registry", None) or ()),
        grace=args.grace,
        settle=0.0 if local else 3.0,
        variables=tuple((item.name, _variable(item)) for item in effective.worker.spec.env),
    )


def variable_name(name: str) -> str:
    """Under which name of the process a guest's variable with `valueFrom` is found: nothing of the process' own
    environment reaches the guest."""
    return _ENV_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", name)


def _variable(item: EnvVar) -> str:
    if item.value is not None:
        return item.value
    found = os.environ.get(variable_name(item.name))
    if found is None:
        raise ManifestError(
            f"the value of {item.name} comes from the cluster; on a laptop set {variable_name(item.name)}",
            field="spec.env",
        )
    return found

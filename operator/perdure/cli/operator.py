"""`perdure operator`: the process that turns Workers into pods."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import uuid
from pathlib import Path

from perdure.cli.hosting import add_logging
from perdure.errors import ManifestError
from perdure.host.config import parse_address
from perdure.host.logs import configure_logging
from perdure.manifests.load import load_manifests
from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.app import OperatorConfig, run_operator
from perdure.reconciler.reconcile import Settings

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "operator",
        help="run the Kubernetes operator",
        description="Watch Workers and KeyValueProviders of the whole cluster and bring about what they say. "
        "In a pod it uses its service account, elsewhere the kubeconfig. Several may run at once: a Lease elects one.",
    )
    parser.add_argument(
        "--host-image",
        default=os.environ.get("PERDURE_HOST_IMAGE"),
        metavar="IMAGE",
        help="the image of Workers' pods (default: $PERDURE_HOST_IMAGE)",
    )
    parser.add_argument(
        "--host-pull-policy", choices=("Always", "IfNotPresent", "Never"), default="IfNotPresent", metavar="POLICY"
    )
    parser.add_argument(
        "--bootstrap", type=Path, metavar="FILE", help="KeyValueProviders to apply when this operator begins to lead"
    )
    parser.add_argument("--insecure-registry", action="append", metavar="HOST:PORT", help="plain HTTP to this one")
    parser.add_argument(
        "--probe-namespace",
        metavar="NAMESPACE",
        help="where KeyValueProviders that name no namespace are probed from (default: the pod's)",
    )
    parser.add_argument(
        "--probe-pull-secret", action="append", metavar="NAME", help="a Secret there to pull the host image with"
    )
    parser.add_argument("--lease-namespace", metavar="NAMESPACE", help="where the Lease lies (default: the pod's)")
    parser.add_argument(
        "--metrics-listen",
        default="0.0.0.0:9090",
        metavar="ADDRESS",
        help="/metrics, /healthz and /readyz (default: %(default)s)",
    )
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    configure_logging(args.log_format, args.log_level)
    if not args.host_image:
        print("perdure operator: name the image of Workers' pods: --host-image or PERDURE_HOST_IMAGE", file=sys.stderr)
        return 2
    name = os.environ.get("POD_NAME") or socket.gethostname()
    return run_operator(
        OperatorConfig(
            settings=Settings(
                args.host_image,
                args.host_pull_policy,
                tuple(args.insecure_registry or ()),
                probe_namespace=args.probe_namespace or _own_namespace(),
                probe_pull_secrets=tuple(args.probe_pull_secret or ()),
            ),
            identity=f"{name}_{uuid.uuid4().hex[:8]}",
            lease_namespace=args.lease_namespace or _own_namespace(),
            metrics_listen=parse_address(args.metrics_listen, option="--metrics-listen"),
            bootstrap=_providers(args.bootstrap) if args.bootstrap is not None else (),
        )
    )


def _providers(path: Path) -> tuple[KeyValueProvider, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}", field="--bootstrap") from error
    return load_manifests(text, source=str(path)).providers


def _own_namespace() -> str:
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else "default"

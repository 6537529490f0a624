"""`perdure probe`: can this provider be used? The operator runs it as a Job for each KeyValueProvider."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from perdure.cli.hosting import SECRETS
from perdure.errors import ManifestError, PerdureError
from perdure.host.probe import probe
from perdure.manifests.load import load_manifests
from perdure.manifests.provider import KeyValueProvider
from perdure.manifests.report import ProbeReport

_LEAST, _MOST = 15.0, 90.0
_EPILOG = """\
examples:
  perdure probe --manifest providers.yaml                    the only KeyValueProvider of the file
  perdure probe --manifest app.yaml --provider shared-redis  one of several
  PERDURE_SHARED_REDIS_PASSWORD=… perdure probe …            credentials without mounted Secrets

exit codes:
  0  hosts could use it (with --report: the report was written, whatever it says)
  1  it answers and cannot be used (credentials, TLS, settings), or the command failed
  2  wrong usage
  3  it does not answer

The JSON fields: provider, kind, usable, cause (no-answer, credentials, tls, unsuitable, refused), message, server
{version, settings}, durability (D0 to D4), guarantee, warnings. What is not known is left out.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "probe",
        help="whether a provider can be used, and what it promises",
        description="Connect to a KeyValueProvider as a host does and say what was found: version, the settings that "
        "matter, the durability level, or why it cannot be used. No data is written. Redis gets Perdure's functions, "
        "PostgreSQL its schema, NATS its stream where they are missing, as from the first host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--manifest", type=Path, required=True, help="a file with the KeyValueProvider")
    parser.add_argument("--provider", metavar="NAME", help="which one, where the file has several")
    parser.add_argument("--data", default="/var/lib/perdure", metavar="DIR", help="SQLite files (default: %(default)s)")
    parser.add_argument("--secrets", default=str(SECRETS), metavar="DIR", help="mounted Secrets (default: %(default)s)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for everything (default: by the provider's)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the JSON there, too (see exit codes)")
    parser.add_argument(
        "--output", choices=("auto", "json", "text"), default="auto", help="auto: text on a terminal (default)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        provider = _provider(args.manifest, args.provider)
        timeout = args.timeout
        if timeout is None:
            timeout = min(_MOST, max(_LEAST, 3 * _patience(provider) + 5))
        elif not 0 < timeout <= _MOST:
            raise ManifestError(f"must be more than 0 and at most {_MOST:g} seconds", field="--timeout")
        report = asyncio.run(probe(provider, data=Path(args.data), secrets=Path(args.secrets), timeout=timeout))
    except PerdureError as error:
        if args.report is not None:
            _write(args.report, f"{error.code}: {error.detail}")
        raise
    document = report.document()
    as_text = args.output == "text" or (args.output == "auto" and sys.stdout.isatty())
    print(_text(report) if as_text else document)
    if args.report is not None:
        _write(args.report, document)
        return 0
    return 0 if report.usable else 3 if report.cause == "no-answer" else 1


def _provider(path: Path, wanted: str | None) -> KeyValueProvider:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}", field="--manifest") from error
    providers = load_manifests(text, source=path.name).providers
    names = ", ".join(provider.name for provider in providers) or "none"
    if wanted is None and len(providers) != 1:
        raise ManifestError(f"{path.name} must have one KeyValueProvider, or name one with --provider (found: {names})")
    found = next((provider for provider in providers if wanted in (None, provider.name)), None)
    if found is None:
        raise ManifestError(f"{path.name} has no KeyValueProvider {wanted} (found: {names})", field="--provider")
    return found


def _patience(provider: KeyValueProvider) -> float:
    """Seconds that one operation may take."""
    return 0.0 if provider.spec.server is None else provider.spec.server.timeout / 1000


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ManifestError(f"{path} cannot be written: {error.strerror}", field="--report") from error


def _text(report: ProbeReport) -> str:
    lines = [f"{report.provider} ({report.kind}): {'usable' if report.usable else f'not usable ({report.cause})'}"]
    if not report.usable:
        return "\n".join([*lines, f"  {report.message}"])
    server = report.server
    rows = {"version": server.version if server else "?", "durability": report.durability or "?"}
    rows |= {"guarantee": report.guarantee or "?", **(server.settings if server else {})}
    lines += [f"  {name:<{max(map(len, rows))}}  {value}" for name, value in rows.items()]
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in report.warnings)])

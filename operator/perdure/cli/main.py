"""The entry point: one parser, one sub-command a module, one place where errors become exit codes.

Exit codes: 0 done, 1 refused or failed (the reason is on standard error), 2 wrong usage, 3 the host was not reached.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from perdure import __version__
from perdure.cli import client, control, fsck, instances, invocation, invoke, journal, keys, promise, update
from perdure.errors import PerdureError

_DESCRIPTION = """\
Perdure runs durable key-value workers: WebAssembly components whose calls survive crashes.

  perdure run FILE            run a component or a Worker manifest on this machine
  perdure invoke NAME FUNC    call a function on an instance
  perdure invocation NAME     its calls that wait, or what became of one
  perdure instances NAME      how an instance is, and why it does not run where it does not
  perdure journal NAME        what it did, call by call
  perdure keys list BUCKET    what is in a bucket; also get, set, delete
  perdure inspect FILE.wasm   what a component needs, and whether it can run
  perdure probe               whether a key-value store can be used, and what it promises
"""
_EXTRAS = {"run": "host", "host": "host", "purge": "host", "probe": "host", "inspect": "host", "operator": "operator"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    args = _parser(given).parse_args(given)
    try:
        code: int = args.run(args)
        return code
    except client.ApiError as error:
        print(f"perdure: {error} [{error.code}]", file=sys.stderr)
        return 3 if error.status == 0 else 1
    except PerdureError as error:
        print(f"perdure: {error.detail} [{error.code}]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough; what is left in the buffer must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Version(argparse.Action):
    """The runtime is imported only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        try:
            runtime = importlib.import_module("perdure.component.boundary").DESCRIPTION
        except ModuleNotFoundError as error:
            runtime = f"none, {error.name} is missing"
        print(f"perdure {__version__} (component runtime: {runtime})")
        parser.exit()


def _parser(given: list[str]) -> argparse.ArgumentParser:
    """Knows all commands, or just the one that is given: importing the others' libraries would take a second."""
    parser = argparse.ArgumentParser(
        prog="perdure", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, help="show the version, and which component runtime is at work")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (invoke, invocation, instances, journal, keys, promise, control, fsck, update):
        module.add_parser(subparsers)
    command = next((word for word in given if not word.startswith("-")), None)
    for name, extra in _EXTRAS.items():
        if command == name or command not in (*_EXTRAS, *subparsers.choices):
            _add_optional(subparsers, name, extra)
    return parser


def _add_optional(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, extra: str) -> None:
    """Commands whose libraries belong to an extra say which one is missing when they are used."""
    try:
        module = importlib.import_module(f"perdure.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("perdure"):
            raise
        missing = error.name

        def refuse(args: argparse.Namespace) -> int:
            print(f"perdure {name} needs {missing}: pip install 'perdure[{extra}]'", file=sys.stderr)
            return 1

        subparsers.add_parser(name, help=f"needs perdure[{extra}]", add_help=False).set_defaults(run=refuse)
    else:
        module.add_parser(subparsers)


if __name__ == "__main__":
    sys.exit(main())

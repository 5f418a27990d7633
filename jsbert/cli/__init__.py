"""The command line `jsbert`. Light to import: typer comes with `main`, the models with the
commands."""

import importlib.util
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of `jsbert` with these arguments (by default the process's): 0, 1 for an error,
    2 for wrong usage, 130 for Ctrl-C."""
    if importlib.util.find_spec("typer") is None:
        print("jsbert: the command line needs typer: pip install 'jsbert[cli]'", file=sys.stderr)
        return 1
    from jsbert.cli.app import run

    return run(sys.argv[1:] if argv is None else argv)

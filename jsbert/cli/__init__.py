"""The command line `jsbert`. The import is light: `main` imports typer, and each command imports
the models that it needs."""

import importlib.util
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `jsbert` with these arguments (by default the process's) and return the exit code: 0 for
    success, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    if importlib.util.find_spec("typer") is None:
        print("jsbert: the command line needs typer: pip install 'jsbert[cli]'", file=sys.stderr)
        return 1
    from jsbert.cli.app import run

    return run(sys.argv[1:] if argv is None else argv)

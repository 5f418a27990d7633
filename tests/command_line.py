"""Run the command line in the tests' process."""

import io
import sys

from jsbert.cli import main


def run(capfd, argv, stdin=b""):
    """Run `jsbert` with these arguments and bytes on stdin, and return (exit code, stdout,
    stderr)."""
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        code = main([str(argument) for argument in argv])
    finally:
        sys.stdin = before
    return (code, *capfd.readouterr())


def is_one_line(err, *words):
    """Return whether this is one line of ours with all of these words."""
    return (
        err.count("\n") == 1 and err.startswith("jsbert: ") and all(word in err for word in words)
    )

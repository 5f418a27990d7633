"""The typer app with all commands, and the function that runs the app once."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from jsbert.cli.convert import convert
from jsbert.cli.embed import embed
from jsbert.cli.encode import encode
from jsbert.cli.errors import (
    TRACEBACK,
    is_usage_error,
    lasting_interrupts,
    one_line,
    report,
    reported,
)
from jsbert.cli.eval import eval
from jsbert.cli.export import export
from jsbert.cli.info import info
from jsbert.cli.rank import rank
from jsbert.cli.search import search
from jsbert.cli.serve import serve
from jsbert.cli.similarity import similarity
from jsbert.cli.train import TrainCommand, train
from jsbert.version import VERSION

HELP = """Sentence-BERT in JAX: sentence embeddings, search, training and evaluation.

Results go to stdout, everything else to stderr. The exit code is 0, 1 for an error, 2 for wrong
usage, 130 for Ctrl-C.
"""


def paragraphs(text: str) -> str:
    """Return a docstring with one line for each paragraph, so that a terminal of any width can wrap
    the lines.

    >>> paragraphs("Two" + chr(10) + "    lines.")
    'Two lines.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


COMMANDS = (encode, embed, similarity, search, rank, serve, eval, train, info, convert, export)

app = typer.Typer(
    name="jsbert", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
for command in COMMANDS:
    text = paragraphs(command.__doc__ or "")
    kind = TrainCommand if command is train else None
    app.command(command.__name__, cls=kind, help=text, short_help=text.partition("\n")[0])(
        reported(command)
    )


def run(argv: Sequence[str]) -> int:
    """Run the app with these arguments and return the exit code."""
    with warnings.catch_warnings(), lasting_interrupts():
        warnings.showwarning = _show_warning
        try:
            code = typer.main.get_command(app).main(
                args=list(argv), prog_name="jsbert", standalone_mode=False
            )
            print(end="", flush=True)
            return code or 0
        except (KeyboardInterrupt, typer.Abort):
            return report(KeyboardInterrupt())
        except Exception as error:
            if os.environ.get(TRACEBACK) and not is_usage_error(error):
                raise
            return report(error)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit()


@app.callback(help=paragraphs(HELP))
def _(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"jsbert: warning: {one_line(str(message))}", file=sys.stderr)

"""Whatever goes wrong, as one line on stderr and an exit code."""

import _thread
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator

import typer

TRACEBACK = "JSBERT_TRACEBACK"
"""Set in the environment, errors keep their traceback."""

LINES = 5
"""Lines kept of a longer message: the tensors that do not fit a model, say."""


def reported(command: Callable) -> Callable:
    """`command`, but its errors and Ctrl-C end in a line on stderr and an exit code. typer's own,
    about usage, pass."""

    @functools.wraps(command)
    def wrapped(*arguments, **options):
        try:
            command(*arguments, **options)
            print(
                end="", flush=True
            )  # a reader that has gone is found here, not when the interpreter ends
        except (KeyboardInterrupt, Exception) as error:
            if (
                is_usage_error(error)
                or isinstance(error, (typer.Exit, typer.Abort))
                or os.environ.get(TRACEBACK)
            ):
                raise
            raise typer.Exit(report(error)) from None

    return wrapped


@contextlib.contextmanager
def lasting_interrupts() -> Iterator[None]:
    """Within it a Ctrl-C that arrives in a callback or destructor, where Python can only drop it,
    comes again."""

    def again(dropped):
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            timers.append(threading.Timer(0.05, _thread.interrupt_main))
            timers[-1].start()
        else:
            before(dropped)

    timers: list[threading.Timer] = []
    before, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def report(error: BaseException) -> int:
    """Writes the line; returns the exit code."""
    try:
        print(end="", flush=True)
    except (
        OSError
    ):  # gone or full: what is still buffered would fail again at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"jsbert: {describe(error)}", file=sys.stderr)
    return 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def describe(error: BaseException) -> str:
    """One line that says what went wrong.

    >>> describe(FileNotFoundError(2, "No such file or directory", "a.txt"))
    'a.txt: No such file or directory'
    >>> describe(ValueError("two things:" + chr(10) + "  this" + chr(10) + "  and that"))
    'two things: this; and that'
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, BrokenPipeError):
        return "broken pipe: whatever read the output has ended"
    if isinstance(error, MemoryError):
        return "out of memory"
    if is_usage_error(error):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return one_line(error.format_message()) + hint
    if isinstance(error, OSError) and error.strerror:
        return one_line(
            f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
        )
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, FloatingPointError)) and str(
        error
    ):
        return one_line(str(error))
    return one_line(
        f"{type(error).__name__}: {error} ({TRACEBACK}=1 in the environment shows where)"
    )


def one_line(text: str) -> str:
    """`text` with its lines, or the first of them, joined."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = lines if len(lines) <= LINES else [*lines[:LINES], f"and {len(lines) - LINES} more"]
    return "; ".join(lines).replace(":; ", ": ")


def is_usage_error(error: BaseException) -> bool:
    """Whether typer raised it, for arguments that do not fit; click's errors in older versions have
    the same form."""
    return hasattr(error, "format_message")

"""Errors of the command line: one line on stderr and an exit code."""

import _thread
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator

import typer

TRACEBACK = "JSBERT_TRACEBACK"
"""The environment variable that, if set, makes errors keep their traceback."""

LINES = 5
"""The number of lines kept of a longer message, such as a list of tensors that do not fit."""


def reported(command: Callable) -> Callable:
    """Wrap `command` so that an error or Ctrl-C prints one line on stderr and sets the exit code.
    typer's own errors about usage are raised unchanged."""

    @functools.wraps(command)
    def wrapped(*arguments, **options):
        try:
            command(*arguments, **options)
            # Flush here, so that a closed pipe is found now and not when the interpreter ends.
            print(end="", flush=True)
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
    """Repeat a Ctrl-C that Python dropped, as long as the context is open. Python drops a Ctrl-C
    that arrives in a callback or a destructor."""

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
    """Write the error's line to stderr and return the exit code."""
    try:
        print(end="", flush=True)
    except OSError:
        # The pipe is closed or the disk is full. The buffered output would fail again when the
        # interpreter ends, so it goes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"jsbert: {describe(error)}", file=sys.stderr)
    return 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def describe(error: BaseException) -> str:
    """Return one line that says what went wrong.

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
    if format_message := getattr(error, "format_message", None):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return one_line(str(format_message())) + hint
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
    """Join the lines of `text` into one line. Keep at most the first `LINES` lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = lines if len(lines) <= LINES else [*lines[:LINES], f"and {len(lines) - LINES} more"]
    return "; ".join(lines).replace(":; ", ": ")


def is_usage_error(error: BaseException) -> bool:
    """Return whether typer raised `error` because of wrong arguments. Older versions of typer raise
    click's errors, which have the same method."""
    return hasattr(error, "format_message")

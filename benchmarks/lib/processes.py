"""Processes with a time limit; the processes of `benchmarks.lib.serve`; the memory of a process."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.lib.engines import LIBRARIES, THREADS


class EngineProcess:
    """An engine in a process of its own.

    Attributes:
        name: one of `benchmarks.lib.engines.ENGINES`.
    """

    def __init__(self, name: str, folder: pathlib.Path, python: str, device: str = "cpu"):
        self.name = name
        self._started = time.perf_counter()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.lib.serve", name, str(folder), device],
            cwd=pathlib.Path(__file__).parents[2],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answer()  # The first answer says that the model is open.

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the answer to a request; see `benchmarks.lib.serve`."""
        self._process.stdin.write(
            json.dumps({name: str(value) for name, value in request.items()}) + "\n"
        )
        self._process.stdin.flush()
        return self._answer()

    def seconds_since_start(self) -> float:
        """Return the seconds since the start of the process was requested."""
        return time.perf_counter() - self._started

    def close(self) -> None:
        """End the process."""
        self._process.communicate()  # This closes the pipes, too.
        self._errors.close()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            said = self._errors.read()[-2000:]
            self.close()
            raise RuntimeError(f"the engine {self.name!r} ended; the last that it said:\n{said}")
        return json.loads(line)


def run_limited(
    command: Sequence[str],
    limit: float,
    environment: Mapping[str, str],
    each_second: Callable[[], None] = lambda: None,
) -> tuple[str, str]:
    """Run a command, and kill it and its children after `limit` seconds. Return (the status, the
    last that the command said). The status is "done", "failed (exit code N)" or "killed after N s".

    Args:
        command: the program and its arguments.
        limit: the seconds that the command may take.
        environment: the variables of the process.
        each_second: called each second while the command runs.
    """
    end = time.perf_counter() + limit
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command,
            cwd=pathlib.Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its children can be killed, too
        )
        try:
            while process.poll() is None and time.perf_counter() < end:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, min(1.0, end - time.perf_counter())))
                each_second()
            code = process.poll()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        tail = said.read()[-2000:].strip()
    if code is None:
        return f"killed after {limit:.0f} s", tail
    return ("done" if code == 0 else f"failed (exit code {code})"), tail


def memory_mb(name: str) -> float | None:
    """Return this process's resident memory: now ("VmRSS"), or the largest so far ("VmHWM"); None
    on a system without Linux's /proc. getrusage is not used, because its value includes the process
    that started this process."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def missing_modules(name: str, python: str) -> list[str]:
    """Return the modules that an engine needs and an interpreter lacks."""
    modules = LIBRARIES[name.split()[0]][1]
    code = (
        "import importlib.util, json\n"
        f"print(json.dumps([m for m in {modules} if not importlib.util.find_spec(m)]))"
    )
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)

"""The processes of `benchmarks.lib.serve`: start, ask and end them; and the memory of a process."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
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

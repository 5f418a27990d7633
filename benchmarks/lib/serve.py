"""An engine in a process of its own, for `benchmarks.encode`.

python -m benchmarks.lib.serve ENGINE FOLDER DEVICE
reads one JSON object a line, and answers each with one. Requests:

    {"texts": FILE}                 encode the JSON list of texts in FILE: {"seconds"}
    {"texts": FILE, "out": FILE}    the same, and write the vectors to a .npy file
    {"tune": FILE}                  try the engine's settings, keep the fastest:
                                    {"settings", "tried"}
    {"single": FILE}                encode one text at a time: {"milliseconds": [...]}

Every answer has "peak_mb", the largest resident memory of the process so far (null on systems other
than Linux). The first line of output, before any request, has "seconds": the time to open the
model, imports included.
"""

import contextlib
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

from benchmarks.lib.engines import open_engine
from benchmarks.lib.processes import memory_mb


class Served:
    """An open engine, and its answers to requests."""

    def __init__(self, engine: Any):
        self.engine, self.settings = engine, {}

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        """Return the answer to one request, without "peak_mb"."""
        kind = next(iter(request))
        texts = json.loads(pathlib.Path(request[kind]).read_text(encoding="utf8"))
        if kind == "tune":
            return self.tune(texts)
        if kind == "single":
            return {
                "milliseconds": [1000 * self._encode([text], self.settings)[0] for text in texts]
            }
        seconds, vectors = self._encode(texts, self.settings)
        if "out" in request:
            np.save(request["out"], vectors)
        return {"seconds": seconds} | (self.engine.about() if hasattr(self.engine, "about") else {})

    def tune(self, texts: list) -> dict[str, Any]:
        """Try the engine's settings on the texts, and keep the fastest."""
        tried = []
        for settings in self.engine.settings:
            self._encode(texts, settings)  # The first run compiles and warms up.
            tried.append((self._encode(texts, settings)[0], settings))
        self.settings = min(tried, key=lambda pair: pair[0])[1]
        return {"settings": self.settings, "tried": tried}

    def _encode(self, texts, settings):
        started = time.perf_counter()
        vectors = self.engine.encode(texts, **settings)
        return time.perf_counter() - started, vectors


def main(name: str, folder: str, device: str) -> None:
    """Open an engine, and answer requests until the input ends."""
    # Libraries print, and their output must not come between the answers. So the answers get the
    # process's output for themselves, and everything else goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(answer):
        print(json.dumps(answer | {"peak_mb": memory_mb("VmHWM")}), file=answers, flush=True)

    started = time.perf_counter()
    served = Served(open_engine(name, folder, device))
    send({"seconds": time.perf_counter() - started})
    for line in sys.stdin:
        send(served.answer(json.loads(line)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])

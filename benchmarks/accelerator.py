"""Everything of jsbert on the accelerator at hand, in at most six minutes: encoding, single
batches, float32, search, training and latency, beside torch and sentence-transformers.

python -m benchmarks.accelerator [--model FOLDER] [--parts PART ...]

The parts, the most telling first:

    mixed      10,000 texts of mixed lengths through the large model: first call, warm calls
    short      20,000 short texts through the bundled model
    batches    one batch of 256 x 128, 64 x 512 and 2,048 x 16 tokens, beside torch's SDPA
    float32    256 x 128 in float32; the largest difference to the CPU's vectors
    search     1,000 queries among 1,000,000 vectors of 384, beside torch's product and topk
    training   updates a second of `fit` beside sentence-transformers' trainer
    one        the latency of one text

The large model is a BERT base of random weights, or the folder of --model. The dtype is bfloat16
where no other is named. Each part is a process with a time limit and an empty cache of programs. A
part that hangs or fails is reported, and the next part begins. The results are written as they
come. torch takes turns with jsbert in the same process, training apart; where torch or
sentence-transformers is missing, the results say so.

`--device cpu --small` tries the command itself: the numbers of that run mean nothing.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.lib import report
from benchmarks.lib.device_job import Job
from benchmarks.lib.device_parts import PARTS
from benchmarks.lib.processes import run_limited
from jsbert.checkpoint import find_folder
from jsbert.files import write_text

PREPARE_SECONDS = 60
"""The time limit of the process that looks for the device and makes texts and model."""

LEAST_SECONDS = 8
"""A part does not begin with less time than this, because even the imports take some of it."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    end = time.perf_counter() + options.limit
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        job = _job(options, folder)
        job.write(folder / "job.json")
        values = _prepared(options, folder)
        values |= {
            "command": report.command(),
            "model": pathlib.Path(job.base).name,
            "is_small": options.small,
            "parts": {},
        }
        _write(options.output, values)
        report.print_circumstances(values)
        print(values["card"] + "\n", flush=True)
        for name in options.parts:
            limit = min(PARTS[name][1], end - time.perf_counter())
            values["parts"][name] = _part(name, limit, folder, options, values)
            _write(options.output, values)
            print("\n".join(_lines({name: values["parts"][name]})) + "\n", flush=True)
    print("written:", options.output)
    return values


def _job(options, folder) -> Job:
    try:
        model = str(find_folder(options.model)) if options.model else None
    except (OSError, ValueError) as error:
        raise SystemExit(f"--model: {error}") from None
    return Job(str(folder), model, options.device, options.small, options.torch)


def _prepared(options, folder) -> dict[str, Any]:
    """Return the machine's facts, once texts and model are made.

    Raises:
        SystemExit: if there is no accelerator, or if the process fails or does not end.
    """
    file = folder / "facts.json"
    command = [sys.executable, "-m", "benchmarks.lib.device_job", folder / "job.json", file]
    limit = min(PREPARE_SECONDS, options.limit)
    status, said = run_limited(command, limit, _environment(options, folder))
    if status != "done":
        raise SystemExit(f"no part was run; looking for the device: {status}. It said:\n{said}")
    facts = _read(file)
    if facts["platform"] == "cpu" and options.device != "cpu":
        raise SystemExit(
            f"no accelerator: JAX sees {facts['device']}. Install jsbert[gpu] or jsbert[tpu] on a "
            "machine that has one; --device cpu --small tries the command without one"
        )
    return facts


def _part(name, limit, folder, options, values) -> dict[str, Any]:
    """Run a part, and write what it has found so far each second. Return its results."""
    if limit < LEAST_SECONDS:
        return {"status": f"not run: {max(0.0, limit):.0f} s are left of --limit {options.limit}"}
    file, started = folder / f"{name}-results.json", time.perf_counter()
    own = folder / f"{name}-cache"
    own.mkdir()
    values["parts"][name] = {"status": "running"}
    _write(options.output, values)
    seen = []

    def note():
        if file.exists() and file.stat().st_mtime_ns not in seen:
            seen.append(file.stat().st_mtime_ns)
            values["parts"][name] = {"status": "running", "results": _read(file)}
            _write(options.output, values)

    command = [sys.executable, "-m", "benchmarks.lib.device_parts", name]
    command += [folder / "job.json", file]
    status, said = run_limited(command, limit, _environment(options, own), note)
    found = {"status": status, "wall_seconds": time.perf_counter() - started}
    if status != "done":
        found["said"] = said
    return found | {"results": _read(file) if file.exists() else {}}


def _environment(options, cache) -> Mapping[str, str]:
    """The variables of a part: nothing is compiled beforehand, and torch and JAX share the
    memory of the device."""
    variables = os.environ | {"XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    variables.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    variables.pop("JAX_COMPILATION_CACHE_DIR", None)
    platforms = variables.get("JAX_PLATFORMS", "")
    if options.device == "cpu":
        variables["JAX_PLATFORMS"] = "cpu"
    elif platforms and "cpu" not in platforms:  # the float32 vectors are compared with the CPU's
        variables["JAX_PLATFORMS"] = f"{platforms},cpu"
    return variables


def _read(file: pathlib.Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf8"))


def _write(file: pathlib.Path, values: dict[str, Any]) -> None:
    write_text(file, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    """The results as indented lines.

    >>> _lines({"short": {"texts": 20000, "seconds": {"jsbert": [0.2, 0.3, 0.4]}}})
    ['short', '  texts: 20,000', '  seconds', '    jsbert: 0.300 [0.200 .. 0.400]']
    """
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [indent + name, *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {_shown(value)}")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return report.spread(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _options(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="by default all")
    add("--model", help="a folder or name in place of a BERT base of random weights")
    add("--limit", type=int, default=360, help="seconds of the whole command (360)")
    add("--output", type=pathlib.Path, help="the JSON file (results/accelerator.json)")
    add("--device", choices=("gpu", "tpu", "cpu"), help="by default JAX's accelerator")
    add("--small", action="store_true", help="shrink every size, to try the command")
    add("--no-torch", dest="torch", action="store_false", help="measure jsbert alone")
    options = parser.parse_args(argv)
    if options.device == "cpu" and not options.small:
        parser.error("--device cpu goes with --small, which tries the command; without --small the "
                     "sizes are those of an accelerator")  # fmt: skip
    if options.limit < 1:
        parser.error(f"--limit is {options.limit}; give at least 1 second")
    if options.output is None:
        name = "accelerator-small" if options.small else "accelerator"
        options.output = report.RESULTS / f"{name}.json"
    if not options.output.parent.is_dir():
        parser.error(f"--output: there is no folder {str(options.output.parent)!r}; make it first")
    return options


if __name__ == "__main__":
    # `timeout` and machines that end a command say SIGTERM: end the running part, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    main()

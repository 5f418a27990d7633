"""What every benchmark prints and writes: machine, versions, commit, command; medians and
ranges."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jsbert.encoders.product import cpu_features

RESULTS = pathlib.Path(__file__).parents[1] / "results"
WORK = pathlib.Path(__file__).parents[1] / "work"
"""The folder where `benchmarks.tradeoff` keeps its models, and where `benchmarks.pairwise` looks
for a trained cross-encoder."""

PACKAGES = (
    "jsbert", "jax", "jaxlib", "flax", "tokenizers", "numpy", "torch", "sentence-transformers",
    "transformers",
)  # fmt: skip


def circumstances() -> dict[str, Any]:
    """Return the circumstances on which a number depends."""
    return {
        "command": command(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": _machine(),
        "device": ", ".join(sorted({f"{d.platform} {d.device_kind}" for d in jax.devices()})),
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)
        },
    }


def command() -> str:
    """Return the command that runs, without the places of its files."""
    return without_places("python -m " + " ".join([_module_name(), *sys.argv[1:]]))


def without_places(command: str) -> str:
    """Return a command in which each path that begins with /, ~ or a dot is cut to its last name.

    >>> without_places("python -m benchmarks.sts --data /somewhere/data raw=../models/tiny:cls")
    'python -m benchmarks.sts --data data raw=tiny:cls'
    """
    return re.sub(r"(?<![^\s=])[/~.][^\s=]*/(?=[^\s/])|(?<![^\s=])/(?=[^\s/])", "", command)


def print_circumstances(values: dict[str, Any]) -> None:
    """Print the circumstances for people."""
    versions = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    print(values["command"])
    where = f"{values['machine']} | {values['device']} | Python {values['python']}"
    print(f"{where} | {versions}")
    print(f"commit {values['commit']}, {values['date']}\n", flush=True)


def measure(
    function: Callable[[], Any], *, short_seconds: float = 2.0, repeats: int = 5
) -> tuple[list[float], Any]:
    """Return (seconds of each run, the last result) of `repeats` runs; of one run if the first run
    took longer than `short_seconds`."""
    seconds, result = [], None
    while not seconds or (len(seconds) < repeats and seconds[0] <= short_seconds):
        started = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - started)
    return seconds, result


def in_turns(functions: dict[str, Callable[[], Any]], repeats: int = 5) -> dict[str, list[float]]:
    """Return the seconds of `repeats` runs of each function. The functions take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(values: dict[str, list[float]], one: str, other: str) -> float:
    """Return the median of `one` divided by the median of `other`."""
    return statistics.median(values[one]) / statistics.median(values[other])


def spread(seconds: list[float], digits: int = 3) -> str:
    """Return the median and the range as text, or the one value."""
    median = statistics.median(seconds)
    if len(seconds) == 1:
        return f"{median:.{digits}f} (1 run)"
    return f"{median:.{digits}f} [{min(seconds):.{digits}f} .. {max(seconds):.{digits}f}]"


def matmul_flops_per_second(
    rows: int = 1024, inputs: int = 384, outputs: int = 1536, dtype: str = "float32"
) -> float:
    """Return the machine's rate at a product, by default of an encoder's shape in float32: the best
    of 20 rounds."""
    a, b = jnp.ones((rows, inputs), dtype), jnp.ones((inputs, outputs), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    product(a, b).block_until_ready()
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(10):
            last = product(a, b)
        last.block_until_ready()
        seconds.append((time.perf_counter() - started) / 10)
    return 2 * rows * inputs * outputs / min(seconds)


def print_table(header: list[str], rows: list[list[Any]]) -> None:
    """Print a table with columns as wide as their widest cell."""
    cells = [header, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for index, row in enumerate(cells):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
        if index == 0:
            print("  ".join("-" * width for width in widths))
    print(flush=True)


def write_json(name: str, values: dict[str, Any], folder: pathlib.Path = RESULTS) -> pathlib.Path:
    """Write results/NAME.json completely or not at all, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.json"
    unfinished.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return unfinished.replace(folder / f"{name}.json")


def pyplot() -> Any:
    """Return matplotlib.pyplot without a screen; or print how to install matplotlib, and return
    None."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: pip install 'jsbert[bench]' for matplotlib")
        return None
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save_figure(figure: Any, file: pathlib.Path) -> None:
    """Write a figure of `pyplot` as a png, close the figure, and print the file's name."""
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    pyplot().close(figure)
    print("written:", file)


def parser(module_doc: str | None) -> argparse.ArgumentParser:
    """Return an argument parser with `--out`."""
    made = argparse.ArgumentParser(
        description=module_doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--out", type=pathlib.Path, default=RESULTS, help="folder for the JSON and the picture"
    )
    return made


def has_torch() -> bool:
    """Return whether sentence-transformers can be run for comparison."""
    return all(importlib.util.find_spec(name) for name in ("torch", "sentence_transformers"))


def _installed(name):
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def _module_name():
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec else "benchmarks"


def _commit():
    here = pathlib.Path(__file__).parents[1]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + (" (with changes)" if changed.stdout.strip() else "")


def _machine():
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf8", errors="replace").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
            model,
        )
    shown = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    model += "".join(f", {feature}" for feature in shown if feature in cpu_features())
    has_affinity = hasattr(os, "sched_getaffinity")
    return f"{model}, {len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()} cores"
